"""Weight perturbation: the gradient of a step is computed where the weights are a little worse."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from faal_core.classifier import Classifier
from faal_core.training.batch_statistics import restored_statistics
from faal_core.training.ranks import SINGLE_RANK, Ranks

PerturbWeight = Callable[[Tensor, Tensor], Tensor]
"""Returns what to add to a weight, from the weight and its gradient."""

_TINY = 1e-20


def perturb_layer(gamma: float, weight: Tensor, gradient: Tensor) -> Tensor:
    """Return γ ‖W‖ g / ‖g‖ (Frobenius norms), the adversarial weight perturbation of a layer.

    Source: Wu et al. 2020, eq. 7 to 10, with one ascent step, layer by layer.
    Differs: no copy of the network and no optimiser of its own, on whose rate the scaled perturbation does not depend.
    """
    return gradient * (gamma * weight.norm() / gradient.norm().clamp_min(_TINY))


@contextmanager
def perturbed_weights(
    classifier: Classifier, perturb: PerturbWeight, losses: Callable[[], Iterable[Tensor]], ranks: Ranks = SINGLE_RANK
) -> Iterator[None]:
    """Add its perturbation to every trained weight of two dimensions or more inside the block.

    The gradient of a weight is that of the sum of `losses()`, which leaves no trace in batch-norm's statistics. At the end of
    the block the perturbation is subtracted from whatever the weight became.
    """
    weights = [parameter for parameter in classifier.parameters() if parameter.requires_grad and parameter.ndim > 1]
    gradients = [torch.zeros_like(weight) for weight in weights]
    with restored_statistics(classifier), ranks.fail_together():
        for loss in losses():
            for gradient, part in zip(gradients, torch.autograd.grad(loss, weights, allow_unused=True), strict=True):
                if part is not None:
                    gradient.add_(part)
    ranks.sum_each(gradients)
    with torch.no_grad():
        perturbations = [perturb(weight, gradient) for weight, gradient in zip(weights, gradients, strict=True)]
        _add(weights, perturbations, 1)
    try:
        yield
    finally:
        with torch.no_grad():
            _add(weights, perturbations, -1)


def _add(weights: list[torch.nn.Parameter], perturbations: list[Tensor], sign: int) -> None:
    for weight, perturbation in zip(weights, perturbations, strict=True):
        weight.add_(perturbation, alpha=sign)
