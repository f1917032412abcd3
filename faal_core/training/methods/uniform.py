"""Plain adversarial training."""

from faal_core.specs import UniformMethod
from faal_core.training.methods.method import Method


class Uniform(Method):
    """All classes weigh the same: Madry et al. 2018, TRADES or MART, by the loss."""

    def __init__(self, spec: UniformMethod, num_classes: int) -> None:
        super().__init__(num_classes, spec.beta)
