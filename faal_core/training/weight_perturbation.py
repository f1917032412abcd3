"""Adversarial weight perturbation: a step is computed where the weights, too, are a little worse."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from faal_core.classifier import Classifier

_TINY = 1e-20


@contextmanager
def perturbed_weights(classifier: Classifier, gamma: float, loss: Callable[[], Tensor]) -> Iterator[None]:
    """Within, every weight W of two dimensions or more is W + γ ‖W‖ g / ‖g‖ (Frobenius), with g its gradient of `loss()`.

    Afterwards the perturbation is taken away again from whatever W became. `loss()` leaves no trace in batch-norm's statistics.
    Source: Wu et al. 2020, eq. 7 to 10, with one ascent step, layer by layer.
    Differs: no copy of the network and no optimiser of its own, on whose rate the scaled perturbation does not depend.
    """
    weights = [parameter for parameter in classifier.parameters() if parameter.requires_grad and parameter.ndim > 1]
    statistics = [buffer.clone() for buffer in classifier.buffers()]
    gradients = torch.autograd.grad(loss(), weights, allow_unused=True)
    with torch.no_grad():
        for buffer, before in zip(classifier.buffers(), statistics, strict=True):
            buffer.copy_(before)
        found = [(weight, slope) for weight, slope in zip(weights, gradients, strict=True) if slope is not None]
        shifts = [slope * (gamma * weight.norm() / slope.norm().clamp_min(_TINY)) for weight, slope in found]
        shifted = [weight for weight, _ in found]
        _shift(shifted, shifts, 1)
    yield
    with torch.no_grad():
        _shift(shifted, shifts, -1)


def _shift(weights: list[torch.nn.Parameter], shifts: list[Tensor], sign: int) -> None:
    for weight, shift in zip(weights, shifts, strict=True):
        weight.add_(shift, alpha=sign)
