"""Methods of class-wise training, one file each, named after its paper."""

from collections.abc import Callable
from typing import Any

from faal_core.specs import MethodSpec
from faal_core.training.methods.cfa import Cfa
from faal_core.training.methods.cfol import Cfol
from faal_core.training.methods.dafa import Dafa
from faal_core.training.methods.decosam import DecoSam
from faal_core.training.methods.faal import Faal
from faal_core.training.methods.frl import Frl
from faal_core.training.methods.fsr import Fsr
from faal_core.training.methods.method import Method
from faal_core.training.methods.uniform import Uniform
from faal_core.training.methods.wat import Wat

_METHODS: dict[str, Callable[[Any, int], Method]] = {
    "faal": Faal,
    "uniform": Uniform,
    "frl": Frl,
    "cfa": Cfa,
    "wat": Wat,
    "dafa": Dafa,
    "cfol": Cfol,
    "fsr": Fsr,
    "decosam": DecoSam,
}


def build(spec: MethodSpec, num_classes: int) -> Method:
    """Return the method of that spec, as it is before training."""
    return _METHODS[spec.type](spec, num_classes)
