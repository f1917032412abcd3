"""FAAL: per-class adversarial-robustness audits and fairness-aware adversarial fine-tuning.

    import faal_core as faal

    classifier = faal.Classifier.wrap(network, num_classes=10, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))
    result = faal.audit(classifier, images, labels, epsilon="8/255", attacks="fast")

The library does not depend on the service around it: paths, device and seed come in as arguments. Its lower half (`exports`,
`reports`, `results`, `dro`, `specs`, `catalog`, `threat_model`, `archives`, `progress`, `errors`) imports no torch, so the
names above are imported when they are first used.
"""

import os
import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from faal_core.auditing import AuditComparison, AuditResult, AuditTable, RadiusSeries, audit, compare, tabulate
    from faal_core.classifier import Classifier
    from faal_core.datasets import LabelledImages, load
    from faal_core.errors import FaalError
    from faal_core.finetuning import FinetuneResult, FinetuningTable, finetune, tabulate_finetunings
    from faal_core.reports.gate_call import gate
    from faal_core.weights import read_classifier, write_classifier

__version__ = "0.1.0"

if "torch" not in sys.modules and "OMP_WAIT_POLICY" not in os.environ:
    # Read when torch loads. Waiting threads of GNU's OpenMP spin up to 300,000 times by default, and take cores from other
    # programs. See docs/decisions/0042-short-spinning.md.
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")

__all__ = [
    "AuditComparison",
    "AuditResult",
    "AuditTable",
    "Classifier",
    "FaalError",
    "FinetuneResult",
    "FinetuningTable",
    "LabelledImages",
    "RadiusSeries",
    "__version__",
    "audit",
    "compare",
    "finetune",
    "gate",
    "load",
    "read_classifier",
    "tabulate",
    "tabulate_finetunings",
    "write_classifier",
]

_HOMES = {
    **dict.fromkeys(
        ("AuditComparison", "AuditResult", "AuditTable", "RadiusSeries", "audit", "compare", "tabulate"), "auditing"
    ),
    "Classifier": "classifier",
    **dict.fromkeys(("LabelledImages", "load"), "datasets"),
    "FaalError": "errors",
    **dict.fromkeys(("FinetuneResult", "FinetuningTable", "finetune", "tabulate_finetunings"), "finetuning"),
    "gate": "reports.gate_call",
    **dict.fromkeys(("read_classifier", "write_classifier"), "weights"),
}


def __getattr__(name: str) -> Any:  # noqa: ANN401 - classes and functions
    """Return a public name, imported from the package that defines it."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        home = import_module(f"{__name__}.{_HOMES[name]}")
    except ModuleNotFoundError as missing:
        message = f"faal_core.{name} needs {missing.name}, which is not installed. Run pip install 'faal[torch]'."
        raise ModuleNotFoundError(message, name=missing.name) from missing
    return getattr(home, name)


def __dir__() -> list[str]:
    """Return the public names."""
    return __all__
