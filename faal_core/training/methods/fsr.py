"""FSR: the spectral norm of the matrix of robust confusions, added to the loss of each batch."""

from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional

from faal_core.classifier import Labels, Logits
from faal_core.specs import FsrMethod
from faal_core.training.methods.method import ClassWeights, Method


@torch.no_grad()
def spectral_weights(logits: Logits, y: Labels) -> Tensor:
    """Return the weight of each probability, `k k`, in a mean over the batch that has the gradient of ‖C‖₂.

    Row c of C has the fractions of class c's images that are predicted as each other class, and 0 for c itself. Its norm is
    u·Cv, with u and v the leading singular vectors, and the derivative of the norm by C is their outer product. Probabilities
    take the place of predictions, which have no gradient. So the probability of class j, of one of the n_c images of class c in
    a batch of B, has the weight B u_c v_j / n_c, or 0 where j is c. All weights are 0 for a batch without confusions.

    Args:
        logits: of the adversarial images of the whole batch.
    """
    classes = logits.shape[1]
    present, rows = y.cpu().unique(return_inverse=True)
    counts = torch.bincount(rows).double()
    predictions = functional.one_hot(logits.argmax(1).cpu(), classes).double()
    is_own = functional.one_hot(present, classes).bool()
    confusion = torch.zeros(len(present), classes, dtype=torch.float64).index_add_(0, rows, predictions)
    confusion = (confusion / counts.unsqueeze(1)).masked_fill(is_own, 0)
    u, norms, v = torch.linalg.svd(confusion, full_matrices=False)
    u, v = u[:, 0].abs(), v[0].abs()  # a leading pair too, whatever the signs, since no entry of C is negative
    weights = torch.zeros(classes, classes, dtype=torch.float64)
    weights[present] = (torch.outer(u / counts, v) * len(y) * (norms[0] > 0)).masked_fill(is_own, 0)
    return weights.to(logits.device, logits.dtype)


class Fsr(Method):
    """Fairness spectral regularisation: all classes weigh the same, and λ times the spectral norm is added to the loss.

    Source: Jin et al., ICLR 2025 (arXiv 2501.13273).
    Differs: see `FsrMethod`.
    """

    def __init__(self, spec: FsrMethod, num_classes: int) -> None:
        super().__init__(num_classes, spec.beta)
        self._strength = spec.strength

    def class_weights(self, adversarial_logits: Logits, y: Labels) -> ClassWeights:
        """Return equal weights, and those of the probabilities for this batch."""
        return replace(self.equal_weights, prediction=self._strength * spectral_weights(adversarial_logits, y))
