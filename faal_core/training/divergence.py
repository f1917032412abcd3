"""Checks that a training's numbers are still finite."""

from torch import Tensor

from faal_core.classifier import Classifier
from faal_core.errors import TrainingDiverged


def divergence_error(quantity: str) -> TrainingDiverged:
    """Return the error that ends a training; `quantity` names the values that are no longer finite."""
    return TrainingDiverged(
        f"The {quantity} became NaN or infinite; try a smaller learning rate. No weights were kept."
    )


def require_finite(values: Tensor, quantity: str) -> None:
    """Check that all values are finite. Raises: TrainingDiverged, which names them as `quantity`."""
    if not bool(values.isfinite().all()):
        raise divergence_error(quantity)


def require_finite_weights(classifier: Classifier) -> None:
    """Check that all weights and statistics are finite. Raises: TrainingDiverged."""
    for value in classifier.state_dict().values():
        require_finite(value, "weights")
