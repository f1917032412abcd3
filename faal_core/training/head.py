"""The change of a classifier's last linear layer by one number per class or two: factors of its rows, constants in its bias."""

import copy
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from faal_core.classifier import Classifier
from faal_core.datasets.labelled_images import LabelledImages


@dataclass(frozen=True, slots=True, eq=False)
class HeadChange:
    """A change of the last layer from (W, c) to (diag(s) W, c + b): row scales s > 0 and class offsets b, `k` each, float32.

    Scaled by t in [0, 1] it is s^t and t·b, so 0 changes nothing. None leaves rows or bias as they are.
    """

    row_scales: Tensor | None = None
    class_offsets: Tensor | None = None

    def __bool__(self) -> bool:
        """Return whether there is anything to change."""
        return self.row_scales is not None or self.class_offsets is not None


def output_layer(classifier: Classifier) -> nn.Linear | None:
    """Return the last linear layer, if it has one output per class."""
    layers = [module for module in classifier.backbone.modules() if isinstance(module, nn.Linear)]
    return layers[-1] if layers and layers[-1].out_features == classifier.num_classes else None


@torch.no_grad()
def change_head(classifier: Classifier, change: HeadChange, scale: float = 1.0) -> Classifier:
    """Change the classifier's last layer in place, by the scaled change, and return the classifier."""
    layer = output_layer(classifier)
    if layer is not None and change.row_scales is not None:
        layer.weight.mul_(change.row_scales.to(layer.weight).pow(scale).unsqueeze(1))
    if layer is not None and layer.bias is not None and change.class_offsets is not None:
        layer.bias.add_(scale * change.class_offsets.to(layer.bias))
    return classifier


def freeze_features(classifier: Classifier) -> None:
    """Let only the weights of the last linear layer require a gradient; its bias is frozen, too."""
    layer = output_layer(classifier)
    for parameter in classifier.parameters():
        parameter.requires_grad_(layer is not None and parameter is layer.weight)


@torch.no_grad()
def takes_change(classifier: Classifier, data: LabelledImages, rows: Tensor, *, of_rows: bool = False) -> bool:
    """Return whether a change of the last layer changes the logits accordingly, tested on the first two of these rows.

    Args:
        of_rows: test row scales, which need no bias; class offsets, which need one, where it is false.
    """
    layer = output_layer(classifier)
    if layer is None or (layer.bias is None and not of_rows):
        return False
    trial = copy.deepcopy(classifier).eval()
    x = trial.lay_out(data.pixels(rows[:2], trial.device))
    before = trial(x).cpu()
    values = torch.linspace(0.5, 1.5, trial.num_classes)
    if of_rows:
        bias = torch.zeros(1) if layer.bias is None else layer.bias.cpu()
        change, expected = HeadChange(row_scales=values), values * (before - bias) + bias
    else:
        change, expected = HeadChange(class_offsets=values), before + values
    return torch.allclose(change_head(trial, change)(x).cpu(), expected, atol=1e-3, rtol=1e-3)


@torch.no_grad()
def equal_norm_scales(weight: Tensor) -> Tensor:
    """Return the row scales, `k`, float32, on the CPU, that give all rows of `weight` their mean norm; 1 for a row of zeros.

    Source: HWNwB, submitted to ICLR 2026: a class's robust accuracy follows the norm of its row. Biases stay as they are.
    """
    norms = weight.double().norm(dim=1).cpu()
    return torch.where(norms > 0, norms.mean() / norms, 1.0).float()
