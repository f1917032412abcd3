"""Test methods that change the last layer alone, against a linear network whose best change is known."""

from pathlib import Path

import pytest
import torch
from torch import nn

from faal_core.classifier import Classifier
from faal_core.datasets.grouping import Grouping
from faal_core.datasets.labelled_images import LabelledImages
from faal_core.errors import ClassifierUnsuitable, InvalidSpec
from faal_core.progress import NoProgress
from faal_core.specs import FinetuneSpec
from faal_core.specs.field_errors import check_fields
from faal_core.training.head import HeadChange, change_head, equal_norm_scales
from faal_core.training.recipe import train
from faal_core.training.rehearsal import rehearse
from faal_core.training.selection import TrainingResult
from tests.linear_classifier import build_linear_classifier, build_one_boundary_classifier
from tests.unit.faal_core.training.test_offsets import SquareLogits

CPU = torch.device("cpu")
TRAINING = {"validation_fraction": 0.25, "batch_size": 16, "attack": {"steps": 4}}
SHAPE = (1, 2, 2)


def build_spec(method: str) -> FinetuneSpec:
    """Return the spec of a method without training, within a radius of 0.05."""
    return check_fields(FinetuneSpec, threat={"epsilon": 0.05}, method={"type": method}, training=TRAINING)


def two_classes() -> tuple[Classifier, LabelledImages]:
    """Return a classifier with z_0 − z_1 = Σ (x − ½) and 40 images of each class.

    Under attack, images of class 0 have a margin of 0.1 − 4 ε = −0.1, and those of class 1 one of 1.2 − 4 ε = 1.
    """
    images = torch.cat([torch.full((40, *SHAPE), 0.525), torch.full((40, *SHAPE), 0.2)])
    data = LabelledImages(images, torch.arange(80) // 40, ("a", "b"), "greys", "train")
    return build_one_boundary_classifier(2, SHAPE, torch.ones(SHAPE)), data


def change(result: TrainingResult, original: Classifier) -> torch.Tensor:
    """Return the change of the bias, after a check that every other weight is the same, bit for bit."""
    before, after = original.state_dict(), result.classifier.state_dict()
    *_, bias = before
    assert all(torch.equal(value, after[name]) for name, value in before.items() if name != bias)
    difference: torch.Tensor = after[bias] - before[bias]
    return difference


def test_the_best_offsets_make_every_image_robust() -> None:
    """If one class misses by 0.1 and the other has a margin of 1, the offsets are in between, and no other weight changed."""
    original, data = two_classes()
    result = train(original, data, build_spec("head"), device=CPU)
    difference = change(result, original)
    assert 0.1 < float(difference[0] - difference[1]) < 1
    assert result.scaled_offsets == pytest.approx(difference.tolist(), abs=1e-6)
    assert result.candidates is not None
    assert result.selected is not None
    assert (result.candidates.original.robust, result.candidates.original.robust_worst) == (0.5, 0)
    assert (result.selected.robust, result.selected.robust_worst, result.selected.interpolation) == (1, 1, 0)
    assert (result.epochs, result.selected_epoch) == ((), 0)


def test_offsets_are_chosen_by_class_and_group() -> None:
    """If the images of one class fail at one site alone, the search begins with a worst rate of 0 there and makes all robust."""
    images = torch.cat([torch.full((count, *SHAPE), level) for count, level in ((20, 0.525), (20, 0.8), (40, 0.2))])
    sites = (Grouping.from_values("site", ["dark"] * 20 + ["light"] * 20 + ["dark"] * 20 + ["light"] * 20),)
    data = LabelledImages(images, torch.arange(80) // 40, ("a", "b"), "greys", "train", groups=sites)
    original = build_one_boundary_classifier(2, SHAPE, torch.ones(SHAPE))
    method = {"type": "head", "groups": "site", "min_cell_images": 10}
    spec = check_fields(FinetuneSpec, threat={"epsilon": 0.05}, method=method, training=TRAINING)
    result = train(original, data, spec, device=CPU)
    assert result.candidates is not None
    assert result.selected is not None
    assert (result.candidates.original.robust, result.candidates.original.robust_worst) == (0.75, 0)
    assert (result.selected.robust, result.selected.robust_worst) == (1, 1)


class NoSearch(NoProgress):
    """Progress that fails if anything is attacked."""

    def stage(self, name: str, total: int) -> None:
        """Refuse the stage."""
        pytest.fail(f"{name} ran again")


@pytest.mark.parametrize("method", ["head", "hwnwb"])
def test_a_finished_search_is_resumed(tmp_path: Path, method: str) -> None:
    """A run that resumes after the search attacks nothing, and ends with the same weights and candidates."""
    original, data = two_classes()
    file, spec = tmp_path / "training.pt", build_spec(method)
    reference, continuation = (
        train(original, data, spec, device=CPU, checkpoint=file, progress=progress) for progress in (None, NoSearch())
    )
    assert continuation.candidates == reference.candidates
    state = reference.classifier.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in continuation.classifier.state_dict().items())


def test_rows_get_one_norm_and_biases_stay() -> None:
    """The full row scales give every row the mean norm; half of them gives the geometric mean of both norms."""
    original = build_linear_classifier(4, (1, 6, 6))
    layer = original.backbone.linear
    layer.weight.data[2] = 0
    norms, bias, scales = layer.weight.norm(dim=1), layer.bias.clone(), equal_norm_scales(layer.weight)
    full, half = (change_head(build_linear_classifier(4, (1, 6, 6)), HeadChange(scales), scale) for scale in (1.0, 0.5))
    others = [0, 1, 3]
    mean = norms.mean()
    torch.testing.assert_close(full.backbone.linear.weight.norm(dim=1)[others], mean.expand(3))
    torch.testing.assert_close(half.backbone.linear.weight.norm(dim=1)[others], (mean * norms[others]).sqrt())
    assert scales[2] == 1
    assert torch.equal(full.backbone.linear.bias, bias)


@pytest.mark.parametrize("method", ["head", "hwnwb", "decosam"])
def test_a_network_without_such_a_layer_is_refused(method: str) -> None:
    """If the logits do not follow the last linear layer, the rehearsal and the training refuse the network."""
    data = LabelledImages(torch.rand(60, 1, 6, 6), torch.arange(60) % 3, ("a", "b", "c"), "noise", "train")
    classifier = Classifier(SquareLogits(), build_linear_classifier(3, (1, 6, 6)).spec)
    for call in (rehearse, lambda *arguments: train(*arguments[:3], device=arguments[3])):
        with pytest.raises(ClassifierUnsuitable, match=f"Method {method} changes .* Choose a method that trains"):
            call(classifier, data, build_spec(method), CPU)


def test_only_offsets_need_a_bias() -> None:
    """A last layer without a bias takes row scales but no class offsets."""
    network = nn.Sequential(nn.Flatten(), nn.Linear(36, 3, bias=False))
    classifier = Classifier(network.requires_grad_(False), build_linear_classifier(3, (1, 6, 6)).spec)
    data = LabelledImages(torch.rand(60, 1, 6, 6), torch.arange(60) % 3, ("a", "b", "c"), "noise", "train")
    rehearse(classifier, data, build_spec("hwnwb"), CPU)
    with pytest.raises(ClassifierUnsuitable, match="changes the bias"):
        rehearse(classifier, data, build_spec("head"), CPU)


@pytest.mark.parametrize("change", [{"validation_fraction": 0}, {"max_robust_drop": None, "max_clean_drop": None}])
def test_a_change_without_training_needs_bounds(change: dict[str, object]) -> None:
    """Without validation images or without a bound, the error names the fields to set."""
    with pytest.raises(InvalidSpec, match=r"validation_fraction must be more than 0.*max_class_drop a number"):
        check_fields(FinetuneSpec, threat={"epsilon": 0.05}, method={"type": "head"}, training=change)
