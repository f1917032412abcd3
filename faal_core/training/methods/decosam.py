"""DecoSAM: sharpness-aware steps on the rows of the last layer alone, with larger radii for smaller rows."""

import torch
from torch import Tensor
from torch.nn import functional

from faal_core.classifier import Labels, PerImage
from faal_core.specs import DecoSamMethod, WeightPerturbation
from faal_core.training.losses import Terms
from faal_core.training.methods.method import ClassWeights, Method
from faal_core.training.weight_perturbation import PerturbWeight


class DecoSam(Method):
    """Sharpness-aware minimisation (SAM) of the last linear layer's weights, with a radius per class; the features are frozen.

    Source: DecoSAM, submission to ICLR 2026, for the frozen features and the radii; Foret et al., ICLR 2021, for the step (SAM).
    Differs: the steps are made in eval mode, so batch-norm's statistics are frozen and dropout is off. The optimiser steps from
        the perturbed weights, from which the perturbation is subtracted afterwards: weight decay sees them, too.
    """

    trains_features = False

    def __init__(self, spec: DecoSamMethod, num_classes: int) -> None:
        super().__init__(num_classes, spec.beta)
        self._tau = spec.tau

    def choose_perturbation(self, spec: WeightPerturbation | None) -> PerturbWeight:
        """Return the perturbation of each row along its gradient, which `proxy_loss` has."""
        return self.perturb_rows

    def proxy_loss(self, terms: Terms, y: Labels, class_weights: ClassWeights) -> PerImage:
        """Return the adversarial cross-entropy as a function of the own logits: a row gets the gradient of its class's images."""
        logits = terms.adversarial_logits
        is_own = functional.one_hot(y, self.num_classes).bool()
        return functional.cross_entropy(torch.where(is_own, logits, logits.detach()), y, reduction="none")

    def perturb_rows(self, weight: Tensor, gradient: Tensor) -> Tensor:
        """Return ν_c g_c / ‖g_c‖ for each row c, with ν the softmax over the rows of −τ ‖w_c‖, `k d`."""
        radii = (-self._tau * weight.norm(dim=1)).softmax(0)
        return radii.unsqueeze(1) * functional.normalize(gradient, dim=1)
