"""Validation accuracy against the closed form of a linear classifier."""

import pytest
import torch

from faal_core.datasets.labelled_images import LabelledImages
from faal_core.specs import FinetuneSpec
from faal_core.threat_model import ThreatModel
from faal_core.training.validation import validate
from tests.linear_classifier import build_one_boundary_classifier
from tests.training_runs import training_run

SHAPE = (3, 5, 7)
RADIUS = 0.04


def images_at_one_distance() -> tuple[torch.Tensor, LabelledImages]:
    """Return a boundary's normal, and images of two classes, all `RADIUS` (L∞) from the boundary."""
    normal = torch.randn(SHAPE, generator=torch.Generator().manual_seed(0))
    towards = RADIUS * normal.sign()
    images = torch.stack([0.5 + towards, 0.5 - towards] * 10)
    return normal, LabelledImages(images, torch.tensor([0, 1] * 10), ("above", "below"), "two sides", "train")


@pytest.mark.parametrize("confidence", [1.0, 1e6])
@pytest.mark.parametrize(("epsilon", "robust"), [(0.95 * RADIUS, 1.0), (1.05 * RADIUS, 0.0)])
def test_validation_accuracy_is_not_fooled_by_confidence(epsilon: float, robust: float, confidence: float) -> None:
    """Every image is broken just beyond its radius and none within, also if the cross-entropy has no gradient left."""
    normal, data = images_at_one_distance()
    classifier = build_one_boundary_classifier(2, SHAPE, confidence * normal)
    spec = FinetuneSpec(threat=ThreatModel(epsilon=epsilon))
    accuracy = validate(classifier, training_run(spec, data))
    assert (accuracy.clean, accuracy.robust, accuracy.images) == ((1.0, 1.0), (robust, robust), (10, 10))
    assert accuracy.clean_correct.tolist() == [True] * 20
    assert accuracy.robust_correct.tolist() == [bool(robust)] * 20
