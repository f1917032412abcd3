"""Test that class × group cells take the place of classes in a training: split, weights, offsets, validation."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from faal_core.classifier import Classifier
from faal_core.datasets import load
from faal_core.datasets.grouping import Grouping
from faal_core.datasets.labelled_images import LabelledImages
from faal_core.dro import worst_case_weights
from faal_core.errors import GroupsMissing
from faal_core.networks import build
from faal_core.progress import NoProgress
from faal_core.specs import (
    ClassifierSpec,
    FaalMethod,
    FinetuneSpec,
    HeadMethod,
    HwnwbMethod,
    TrainingAttack,
    TrainingSpec,
    UniformMethod,
)
from faal_core.threat_model import ThreatModel
from faal_core.training import methods
from faal_core.training.cells import Cells, assign_cells
from faal_core.training.methods.faal import probability_margins
from faal_core.training.offset_search import TargetedMargins, predict_accuracies, search_offsets
from faal_core.training.recipe import train
from faal_core.training.row_split import split_rows
from faal_core.training.validation import validate
from tests.linear_classifier import build_one_boundary_classifier
from tests.training_runs import training_run

SHAPE = (1, 4, 4)


def with_groups(data: LabelledImages, groups: list[str]) -> LabelledImages:
    """Return the data with the column `site`."""
    return replace(data, groups=(Grouping.from_values("site", groups),))


def uneven_data() -> LabelledImages:
    """Return 160 blank images of two classes: 80 of the first are at site a and 20 at b, of the second 50 and 10."""
    labels = torch.tensor([0] * 100 + [1] * 60)
    blank = LabelledImages(torch.zeros(160, *SHAPE, dtype=torch.uint8), labels, ("x", "y"), "blank", "train")
    return with_groups(blank, ["a"] * 80 + ["b"] * 20 + ["a"] * 50 + ["b"] * 10)


def test_every_cell_validates_with_the_same_fraction() -> None:
    """The validation set has a fifth of each cell, which a floor above a cell's size joins to the other one of its class."""
    data = uneven_data()
    for floor, sizes, expected in ((10, [80, 20, 50, 10], [16, 4, 10, 2]), (15, [80, 20, 60], [16, 4, 12])):
        cells = assign_cells(data, FaalMethod(groups="site", min_cell_images=floor))
        assert torch.bincount(cells.numbers).tolist() == sizes
        rows = split_rows(data, 0.2, 3, cells)
        assert torch.bincount(cells.take(rows.validation).numbers).tolist() == expected


def test_without_groups_the_cells_are_the_classes() -> None:
    """Methods without groups have the classes as cells, also if the data has groups."""
    data = uneven_data()
    for method in (FaalMethod(), UniformMethod()):
        cells = assign_cells(data, method)
        assert (cells.numbers is data.labels, cells.count) == (True, 2)


def test_methods_of_the_last_layer_have_the_cells_of_faal() -> None:
    """Class offsets alone and equal norms alone are chosen by the same class × group cells as a training."""
    data, fields = uneven_data(), {"groups": "site", "min_cell_images": 15}
    expected = assign_cells(data, FaalMethod(**fields))
    assert expected.count > 2
    for method in (HeadMethod(**fields), HwnwbMethod(**fields)):
        cells = assign_cells(data, method)
        assert cells.count == expected.count
        assert torch.equal(cells.numbers, expected.numbers)


def test_a_missing_column_is_refused_with_the_columns() -> None:
    """A column that the data lacks is refused, and the message lists the columns that it has."""
    with pytest.raises(GroupsMissing, match=r"no column of groups 'camera'; its columns are 'site'"):
        assign_cells(uneven_data(), FaalMethod(groups="camera"))
    with pytest.raises(GroupsMissing, match="it has none"):
        assign_cells(replace(uneven_data(), groups=()), FaalMethod(groups="site"))


def test_weights_are_the_worst_distribution_over_the_cells_of_the_batch() -> None:
    """A cell has weight m·p for the mean margins of the m cells present; an absent cell has 0."""
    logits = torch.log(torch.tensor([[0.7, 0.2, 0.1], [0.1, 0.6, 0.3], [0.5, 0.3, 0.2], [0.2, 0.3, 0.5]]))
    y, cells = torch.tensor([0, 0, 0, 1]), torch.tensor([0, 1, 1, 3])
    method = methods.build(FaalMethod(dro_radius=0.5, loss="trades", groups="site"), 5)
    margins = probability_margins(logits, y).numpy().astype(float)
    expected = 3 * worst_case_weights(np.array([margins[0], margins[1:3].mean(), margins[3]]), 0.5)
    weights = method.cell_weights(logits, y, cells)
    assert weights.classification.tolist() == pytest.approx([*expected[:2], 0, expected[2], 0], abs=1e-5)
    assert torch.equal(weights.divergence, 6 * weights.classification)


def test_a_column_of_classes_changes_nothing() -> None:
    """If the groups are the classes, the trained weights and the class weights are those of a training without groups."""
    data = load("fashion-mnist-subset", "train")
    data = data.take(data.stratified(100, 0))
    data = with_groups(data, [data.class_names[label] for label in data.labels])
    training = TrainingSpec(
        learning_rates=(0.1,),
        attack=TrainingAttack(steps=1),
        batch_size=25,
        validation_fraction=0.2,
        max_robust_drop=1.0,
        max_clean_drop=1.0,
    )
    results = []
    for groups in (None, "site"):
        torch.manual_seed(0)
        classifier = build(ClassifierSpec(architecture="small_resnet", num_classes=10, arguments={"width": 8}))
        spec = FinetuneSpec(threat=ThreatModel(epsilon=0.1), method=FaalMethod(groups=groups), training=training)
        results.append(train(classifier, data, spec, device=torch.device("cpu")))
    one, other = results
    assert one.epochs[0].class_weights == other.epochs[0].class_weights
    assert one.candidates == other.candidates
    for name, value in one.best_epoch_weights.items():
        assert torch.equal(value, other.best_epoch_weights[name]), name


def boundary_images() -> tuple[Classifier, LabelledImages]:
    """Return a classifier of two classes, and images of which those at site b are nearer to its boundary than 0.02."""
    normal = torch.randn(SHAPE, generator=torch.Generator().manual_seed(0))
    distances = torch.tensor([0.04, 0.04, 0.04, 0.01] * 5)
    sides = torch.tensor([1.0, -1.0]).repeat_interleave(10)
    images = 0.5 + (sides * distances).view(-1, 1, 1, 1) * normal.sign()
    data = LabelledImages(images, torch.tensor([0] * 10 + [1] * 10), ("above", "below"), "sides", "train")
    return build_one_boundary_classifier(2, SHAPE, normal), with_groups(data, ["a", "a", "a", "b"] * 5)


def test_validation_counts_by_cell() -> None:
    """The robust rate of each cell is 1 where its images are beyond the radius and 0 within, whatever their class."""
    classifier, data = boundary_images()
    spec = FinetuneSpec(threat=ThreatModel(epsilon=0.02), method=FaalMethod(groups="site", min_cell_images=2))
    accuracy = validate(classifier, replace(training_run(spec, data), cells=assign_cells(data, spec.method)))
    assert (accuracy.clean, accuracy.robust) == ((1.0,) * 4, (1.0, 0.0, 1.0, 0.0))
    assert (accuracy.images, accuracy.robust_worst, accuracy.robust_mean) == ((8, 2, 7, 3), 0.0, 0.5)
    assert accuracy.robust_drop(replace(accuracy, robust=(1.0, 1.0, 1.0, 1.0))) >= 0.5


def test_offsets_lift_the_worst_cell() -> None:
    """Offsets between two margins make the worst cell robust, where the worst class alone would not ask for them."""
    y = torch.tensor([0] * 50 + [1] * 50)
    cells, classes = Cells(torch.tensor([0] * 40 + [1] * 10 + [2] * 50), 3), Cells(y, 2)
    smallest = torch.tensor([1.0] * 40 + [-0.1] * 10 + [1.0] * 30 + [-9.0] * 20, dtype=torch.float64).unsqueeze(1)
    margins = TargetedMargins(smallest, smallest + 100, (1 - y).unsqueeze(1), y)
    unmoved, training = torch.zeros(1, 2, dtype=torch.float64), TrainingSpec(max_robust_drop=0)
    assert predict_accuracies(margins, unmoved, classes)[0].robust == pytest.approx((0.8, 0.6))
    assert predict_accuracies(margins, unmoved, cells)[0].robust == pytest.approx((1.0, 0.0, 0.6))
    assert search_offsets(margins, 2, training, classes, NoProgress()) is None
    offsets = search_offsets(margins, 2, training, cells, NoProgress())
    assert offsets is not None
    (after,) = predict_accuracies(margins, offsets.double().unsqueeze(0), cells)
    assert after.robust == pytest.approx((1.0, 1.0, 0.6))
