"""DecoSAM: sharpness-aware steps on the rows of the last layer alone, with larger radii for smaller rows."""

from torch import Tensor
from torch.nn import functional

from faal_core.specs import DecoSamMethod, WeightPerturbation
from faal_core.training.methods.method import Method
from faal_core.training.weight_perturbation import PerturbWeight


class DecoSam(Method):
    """Sharpness-aware minimisation (SAM) of the last linear layer's weights, with a radius per class; the features are frozen.

    Source: DecoSAM, submission to ICLR 2026, for the frozen features and the radii; Foret et al., ICLR 2021, for the step (SAM).
    Differs: the steps are made in eval mode, so batch-norm's statistics are frozen and dropout is off.
    """

    trains_features = False

    def __init__(self, spec: DecoSamMethod, num_classes: int) -> None:
        super().__init__(num_classes, spec.beta)
        self._tau = spec.tau

    def choose_perturbation(self, spec: WeightPerturbation | None) -> PerturbWeight:
        """Return the perturbation of each row along its own gradient; all classes weigh the same in the gradient."""
        return self.perturb_rows

    def perturb_rows(self, weight: Tensor, gradient: Tensor) -> Tensor:
        """Return ν_c g_c / ‖g_c‖ for each row c, with ν the softmax over the rows of −τ ‖w_c‖, `k d`."""
        radii = (-self._tau * weight.norm(dim=1)).softmax(0)
        return radii.unsqueeze(1) * functional.normalize(gradient, dim=1)
