"""Ten networks, exported by torch: audits of the files have the outcomes of audits of the networks."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnx")

import torch
from torch import nn

from faal_core.auditing import audit
from faal_core.classifier import Classifier
from faal_core.networks import build
from faal_core.specs import ClassifierSpec
from faal_core.torchvision_import import torchvision
from faal_core.weights import read_classifier
from tests.onnx_files import convolutional_network, export

CLASSES, SIDE, IMAGES = 10, 32, 40
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def build_by_name(architecture: str) -> nn.Module:
    """Return a network of the catalog."""
    return build(ClassifierSpec(architecture=architecture, num_classes=CLASSES, mean=MEAN, std=STD)).backbone


def vision_transformer(**sizes: int) -> nn.Module:
    """Return torchvision's ViT for small images."""
    return torchvision.models.VisionTransformer(image_size=SIDE, patch_size=8, num_classes=CLASSES, **sizes).eval()


NETWORKS: dict[str, tuple[Callable[[], nn.Module], bool]] = {
    "cnn": (lambda: convolutional_network(CLASSES), True),
    "cnn, not folded": (lambda: convolutional_network(CLASSES), False),
    "resnet18": (lambda: build_by_name("torchvision/resnet18"), True),
    "resnet18, not folded": (lambda: build_by_name("torchvision/resnet18"), False),
    "resnet50": (lambda: build_by_name("torchvision/resnet50"), True),
    "resnet50, not folded": (lambda: build_by_name("timm/resnet50"), False),
    "vit": (lambda: vision_transformer(num_layers=12, num_heads=6, hidden_dim=384, mlp_dim=1536), True),
    "vit, not folded": (lambda: vision_transformer(num_layers=12, num_heads=3, hidden_dim=192, mlp_dim=768), False),
    "convnext": (lambda: build_by_name("torchvision/convnext_tiny"), True),
    "convnext, not folded": (lambda: build_by_name("timm/convnext_atto"), False),
}


def vary(network: nn.Module) -> nn.Module:
    """Return the network with batch-norm statistics and last weights that are not those of a fresh network."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d) and module.running_mean is not None and module.running_var is not None:
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
    last = [module for module in network.modules() if isinstance(module, nn.Linear)][-1]
    nn.init.normal_(last.weight, 0, 0.5)
    return network.eval()


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", NETWORKS)
def test_audits_have_the_same_outcomes(name: str, tmp_path: Path) -> None:
    """Per image: the same prediction, the same attack that breaks it or none, and the same clean margin but for rounding."""
    torch.manual_seed(0)
    builder, folded = NETWORKS[name]
    network = vary(builder())
    path = export(network, tmp_path / "net.onnx", (3, SIDE, SIDE), folded=folded)
    original = Classifier.wrap(network, num_classes=CLASSES, mean=MEAN, std=STD)
    images = torch.rand(IMAGES, 3, SIDE, SIDE)
    with torch.no_grad():
        labels = original.eval()(images).argmax(1)
    labels[:CLASSES] = torch.arange(CLASSES)  # every class occurs, though most of these are wrong
    spec = ClassifierSpec(architecture="onnx", num_classes=CLASSES, mean=MEAN, std=STD)
    radius = find_radius(original, images, labels)
    attacks = [
        {"type": "apgd", "loss": "cross-entropy", "iterations": 10},
        {"type": "pgd", "steps": 5, "loss": "margin"},
    ]
    first, second = (
        audit(one, images, labels, epsilon=radius, attacks=attacks, progress=False).outcomes_frame()
        for one in (original, read_classifier(path, spec))
    )
    for column in ("clean_prediction", "clean", "robust", "broken_by"):
        assert first[column].equals(second[column]), column
    assert np.allclose(first["clean_margin"], second["clean_margin"], atol=1e-4)
    assert 0 < sum(second["robust"]) < IMAGES


def find_radius(classifier: Classifier, images: torch.Tensor, labels: torch.Tensor) -> float:
    """Return about the radius at which a step along the gradient's sign breaks half of the images."""
    x = images.clone().requires_grad_()
    logits = classifier(x)
    margins = logits.gather(1, labels[:, None])[:, 0] - logits.scatter(1, labels[:, None], -torch.inf).amax(1)
    (gradient,) = torch.autograd.grad(margins.sum(), x)
    return round(float((margins.detach() / gradient.abs().sum((1, 2, 3)))[CLASSES:].median()), 6)
