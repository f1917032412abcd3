"""Test the search for class offsets by margins, against closed forms."""

import pytest
import torch

from faal_core.classifier import Classifier
from faal_core.datasets.labelled_images import LabelledImages
from faal_core.progress import NoProgress
from faal_core.specs import FinetuneSpec, TrainingSpec
from faal_core.threat_model import ThreatModel
from faal_core.training.cells import Cells
from faal_core.training.head import HeadChange, change_head
from faal_core.training.offset_search import TargetedMargins, predict_accuracies, search_offsets
from faal_core.training.offsets import find_offsets, targeted_margins
from faal_core.training.validation import validate
from tests.linear_classifier import build_linear_classifier
from tests.training_runs import training_run

SHAPE = (1, 6, 6)
CLASSES = 3
SPEC = FinetuneSpec(threat=ThreatModel(epsilon=0.005))


def uneven(seed: int = 0) -> tuple[Classifier, LabelledImages]:
    """Return a linear classifier whose first class has a handicap, and images with its labels without the handicap."""
    classifier = build_linear_classifier(CLASSES, SHAPE, seed)
    images = 0.5 + 0.3 * (torch.rand(300, *SHAPE, generator=torch.Generator().manual_seed(seed)) - 0.5)
    with torch.no_grad():
        labels = classifier(images).argmax(1)
    change_head(classifier, HeadChange(class_offsets=torch.tensor([-0.4, 0.3, 0.1])))
    return classifier, LabelledImages(images, labels, ("a", "b", "c"), "greys", "train")


def test_margins_of_a_linear_classifier() -> None:
    """The margin over every other class falls by exactly ε times the L1 norm of the difference of the weights."""
    classifier, data = uneven()
    result = targeted_margins(classifier, torch.arange(len(data)), training_run(SPEC, data))
    with torch.no_grad():
        logits = classifier(data.images)
    weight = classifier.backbone.linear.weight.detach()
    rows = torch.arange(len(data))
    for place in range(CLASSES - 1):
        target = result.targets[:, place]
        clean = logits[rows, data.labels] - logits[rows, target]
        fall = SPEC.threat.epsilon * (weight[data.labels] - weight[target]).abs().sum(1)
        assert torch.allclose(result.clean[:, place], clean.double(), atol=1e-4)
        assert torch.allclose(result.smallest[:, place], (clean - fall).double(), atol=1e-4)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_rates_are_those_of_the_moved_classifier(seed: int) -> None:
    """The rates that margins predict for class offsets equal the validation accuracies of the classifier with them."""
    classifier, data = uneven(seed)
    rows = torch.arange(len(data))
    result = targeted_margins(classifier, rows, training_run(SPEC, data))
    offsets = torch.tensor([0.4, -0.3, -0.1])
    (predicted,) = predict_accuracies(result, offsets.double().unsqueeze(0), Cells(data.labels, CLASSES))
    accuracy = validate(change_head(classifier, HeadChange(class_offsets=offsets)), training_run(SPEC, data))
    assert predicted.clean == pytest.approx(accuracy.clean, abs=1e-6)
    assert predicted.robust == pytest.approx(accuracy.robust, abs=1e-6)


def test_the_worst_class_rises_and_the_mean_hardly_falls() -> None:
    """Class offsets make the classes more equal, and the mean falls by at most its bound."""
    classifier, data = uneven()
    rows = torch.arange(len(data))
    before = validate(classifier, training_run(SPEC, data))
    offsets = find_offsets(classifier, rows, training_run(SPEC, data))
    assert offsets is not None
    after = validate(change_head(classifier, HeadChange(class_offsets=offsets)), training_run(SPEC, data))
    assert after.robust_worst > before.robust_worst + 0.1
    assert after.robust_mean >= before.robust_mean - SPEC.training.max_robust_drop - 1e-6


def two_classes(values: list[float], counts: tuple[int, int]) -> TargetedMargins:
    """Return margins of images of two classes; their clean margins are large."""
    y = torch.tensor([0] * counts[0] + [1] * counts[1])
    smallest = torch.tensor(values, dtype=torch.float64).unsqueeze(1)
    return TargetedMargins(smallest, smallest + 100, (1 - y).unsqueeze(1), y)


def search(margins: TargetedMargins, max_robust_drop: float) -> torch.Tensor | None:
    """Return the offsets of two classes within that bound."""
    return search_offsets(margins, 2, TrainingSpec(max_robust_drop=max_robust_drop), Cells(margins.y, 2), NoProgress())


def rates(margins: TargetedMargins, offsets: torch.Tensor) -> tuple[float, ...]:
    """Return the robust accuracies of two classes under these offsets."""
    return predict_accuracies(margins, offsets.double().unsqueeze(0), Cells(margins.y, 2))[0].robust


def test_a_tie_that_an_offset_breaks() -> None:
    """If one class misses by 0.1 and the other has a margin of 1, an offset in between makes every image robust."""
    margins = two_classes([-0.1] * 10 + [1.0] * 10, (10, 10))
    offsets = search(margins, 0.0)
    assert offsets is not None
    assert 0.1 < float(offsets[0] - offsets[1]) < 1
    assert rates(margins, offsets) == (1, 1)


def test_nothing_to_gain() -> None:
    """There are no class offsets if each one costs the mean as much as it gives the worst class."""
    assert search(two_classes([-0.5] * 5 + [0.5] * 5 + [0.1] * 10, (10, 10)), 0.0) is None


class SquareLogits(torch.nn.Module):
    """A network whose logits are squares of a linear layer's, so that its bias is no offset."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(36, CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the logits."""
        answer: torch.Tensor = self.layer(x.flatten(1)) ** 2
        return answer


@pytest.mark.parametrize(
    "backbone",
    [torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(36, CLASSES, bias=False)), SquareLogits()],
    ids=["no bias", "not last"],
)
def test_networks_without_a_last_bias_have_no_offsets(backbone: torch.nn.Module) -> None:
    """A network without a bias added to its logits has no class offsets, and its weights do not change."""
    like, data = uneven()
    classifier = Classifier(backbone, like.spec)
    before = {name: value.clone() for name, value in classifier.state_dict().items()}
    assert find_offsets(classifier, torch.arange(len(data)), training_run(SPEC, data)) is None
    assert all(torch.equal(value, before[name]) for name, value in classifier.state_dict().items())


def test_offsets_use_the_allowed_fall_of_the_mean() -> None:
    """If the worst class gains less than the other loses, offsets exist once the mean may fall by the difference.

    An offset over 0.5 gains a fifth of the 50 images of the worst class, and loses 30 of the other 100: the mean over all images
    falls by 20 of 150, with half a standard error of 1.9 points.
    """
    worst, other = [-0.5, -0.5, -5.0, -5.0, -5.0, 0.5, 0.5, 0.5, 0.5, 0.5] * 5, ([0.1] * 3 + [2.0] * 7) * 10
    margins = two_classes(sorted(worst) + sorted(other), (50, 100))
    assert rates(margins, torch.zeros(2)) == (0.5, 1.0)
    assert search(margins, 0.145) is None
    offsets = search(margins, 0.16)
    assert offsets is not None
    assert rates(margins, offsets) == pytest.approx((0.7, 0.7))


def test_equal_classes_need_no_offsets() -> None:
    """Where no class differs from another but by chance, offsets are seldom found."""
    generator = torch.Generator().manual_seed(0)
    found = 0
    for _ in range(10):
        values = torch.randn(200, generator=generator, dtype=torch.float64).tolist()
        offsets = search(two_classes(values, (100, 100)), 0.0)
        found += offsets is not None
    assert found <= 1


@pytest.mark.parametrize("counts", [(1, 6), (2, 2), (1, 1)])
def test_few_images_are_no_error(counts: tuple[int, int]) -> None:
    """With fewer images of a class than folds, offsets are found or not, without an error."""
    values = [-0.1] * counts[0] + [1.0] * counts[1]
    offsets = search(two_classes(values, counts), 0.5)
    assert offsets is None or bool(torch.isfinite(offsets).all())
