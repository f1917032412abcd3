"""Adversarial weight perturbation: a step is computed where the weights, too, are a little worse."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from faal_core.classifier import Classifier
from faal_core.training.batch_statistics import statistics_kept
from faal_core.training.ranks import ALONE, Ranks

_TINY = 1e-20


@contextmanager
def perturbed_weights(
    classifier: Classifier, gamma: float, losses: Callable[[], Iterable[Tensor]], ranks: Ranks = ALONE
) -> Iterator[None]:
    """Within, every weight W of two dimensions or more is W + γ ‖W‖ g / ‖g‖ (Frobenius), g its gradient of the sum of `losses()`.

    Afterwards the perturbation is taken away again from whatever W became. `losses()` leaves no trace in batch-norm's statistics.
    Source: Wu et al. 2020, eq. 7 to 10, with one ascent step, layer by layer.
    Differs: no copy of the network and no optimiser of its own, on whose rate the scaled perturbation does not depend.
    """
    weights = [parameter for parameter in classifier.parameters() if parameter.requires_grad and parameter.ndim > 1]
    slopes = [torch.zeros_like(weight) for weight in weights]
    with statistics_kept(classifier), ranks.agreed():
        for loss in losses():
            for slope, more in zip(slopes, torch.autograd.grad(loss, weights, allow_unused=True), strict=True):
                if more is not None:
                    slope += more
    ranks.sum_each(slopes)
    with torch.no_grad():
        shifts = [
            slope * (gamma * weight.norm() / slope.norm().clamp_min(_TINY))
            for weight, slope in zip(weights, slopes, strict=True)
        ]
        _shift(weights, shifts, 1)
    try:
        yield
    finally:
        with torch.no_grad():
            _shift(weights, shifts, -1)


def _shift(weights: list[torch.nn.Parameter], shifts: list[Tensor], sign: int) -> None:
    for weight, shift in zip(weights, shifts, strict=True):
        weight.add_(shift, alpha=sign)
