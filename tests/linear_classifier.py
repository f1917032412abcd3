"""A linear classifier of known robustness: the closed-form oracle for attacks (docs/method.md, oracles)."""

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
        """Logits."""
        logits: Tensor = self.linear(x.flatten(1))
        return logits


def linear_classifier(num_classes: int, shape: tuple[int, int, int], seed: int = 0) -> Classifier:
    """Random small weights, so that its smallest adversarial perturbations stay far from the pixel box around grey."""
    generator = torch.Generator().manual_seed(seed)
    return _classifier(torch.randn(num_classes, shape[0] * shape[1] * shape[2], generator=generator), shape)


def one_boundary_classifier(num_classes: int, shape: tuple[int, int, int], normal: Tensor | None = None) -> Classifier:
    """Two classes parted by the hyperplane through grey with that normal, random when absent; the others are far from both.

    So the class that is next in logits is next in distance too, for every image.
    """
    size = shape[0] * shape[1] * shape[2]
    normal = torch.randn(size, generator=torch.Generator().manual_seed(0)) if normal is None else normal.flatten()
    weight = torch.zeros(num_classes, size)
    weight[0], weight[1] = normal / 2, -normal / 2
    classifier = _classifier(weight, shape)
    classifier.backbone.linear.bias.data[2:] = -100
    return classifier


def _classifier(weight: Tensor, shape: tuple[int, int, int]) -> Classifier:
    """Logits that are zero at grey."""
    num_classes, bias = len(weight), -weight.sum(1) * 0.5
    spec = ClassifierSpec(
        architecture="small_resnet", num_classes=num_classes, mean=(0.0,) * shape[0], std=(1.0,) * shape[0]
    )
    return Classifier(Linear(weight, bias), spec).eval()


def smallest_radius(classifier: Classifier, x: Tensor, y: Tensor, norm: Norm) -> Tensor:
    """The distance of each image to the nearest other class: (z_y − z_j) / ‖w_y − w_j‖, dual norm, smallest over j ≠ y."""
    weight = classifier.backbone.linear.weight.detach()
    logits = classifier(x).detach()
    difference = weight[y].unsqueeze(1) - weight.unsqueeze(0)
    dual = difference.abs().sum(2) if norm is Norm.LINF else difference.norm(dim=2)
    gaps = logits.gather(1, y.unsqueeze(1)) - logits
    return (gaps / dual.clamp_min(1e-12)).scatter(1, y.unsqueeze(1), torch.inf).amin(1)
