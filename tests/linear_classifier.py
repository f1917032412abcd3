"""A linear classifier of known robustness: the closed-form oracle for attacks."""

import torch
from torch import Tensor, nn

from faal_core.classifier import Classifier
from faal_core.specs import ClassifierSpec
from faal_core.threat_model import Norm


class Linear(nn.Module):
    """Logits w·x + b of flattened images."""

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        super().__init__()
        self.linear = nn.Linear(weight.shape[1], weight.shape[0])
        self.linear.weight.data, self.linear.bias.data = weight, bias

    def forward(self, x: Tensor) -> Tensor:
        """Return logits."""
        logits: Tensor = self.linear(x.flatten(1))
        return logits


def build_linear_classifier(num_classes: int, shape: tuple[int, int, int], seed: int = 0) -> Classifier:
    """Return a classifier with small random weights: smallest perturbations of grey images stay inside the pixel box."""
    generator = torch.Generator().manual_seed(seed)
    return _build_classifier(torch.randn(num_classes, shape[0] * shape[1] * shape[2], generator=generator), shape)


def build_one_boundary_classifier(
    num_classes: int, shape: tuple[int, int, int], normal: Tensor | None = None
) -> Classifier:
    """Return a classifier whose classes 0 and 1 are separated by a hyperplane through grey; the other classes are far from both.

    So the class with the second-highest logit is also the nearest one, for every image.

    Args:
        normal: the normal of the hyperplane; random when absent.
    """
    size = shape[0] * shape[1] * shape[2]
    normal = torch.randn(size, generator=torch.Generator().manual_seed(0)) if normal is None else normal.flatten()
    weight = torch.zeros(num_classes, size)
    weight[0], weight[1] = normal / 2, -normal / 2
    classifier = _build_classifier(weight, shape)
    classifier.backbone.linear.bias.data[2:] = -100
    return classifier


def _build_classifier(weight: Tensor, shape: tuple[int, int, int]) -> Classifier:
    """Return a classifier with that weight, whose logits are zero at grey."""
    num_classes, bias = len(weight), -weight.sum(1) * 0.5
    spec = ClassifierSpec(
        architecture="small_resnet", num_classes=num_classes, mean=(0.0,) * shape[0], std=(1.0,) * shape[0]
    )
    return Classifier(Linear(weight, bias), spec).eval()


def compute_smallest_radius(classifier: Classifier, x: Tensor, y: Tensor, norm: Norm) -> Tensor:
    """Return the distance of each image to the nearest other class: min over j ≠ y of (z_y − z_j) / ‖w_y − w_j‖, dual norm."""
    weight = classifier.backbone.linear.weight.detach()
    logits = classifier(x).detach()
    difference = weight[y].unsqueeze(1) - weight.unsqueeze(0)
    dual = difference.abs().sum(2) if norm is Norm.LINF else difference.norm(dim=2)
    gaps = logits.gather(1, y.unsqueeze(1)) - logits
    return (gaps / dual.clamp_min(1e-12)).scatter(1, y.unsqueeze(1), torch.inf).amin(1)
