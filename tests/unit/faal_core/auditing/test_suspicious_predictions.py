"""Test the warnings on mixed-up labels, guessing and one answer; a merely weak network raises none."""

import numpy as np
import pytest

from faal_core.auditing.reliability import check_class_sizes, examine_predictions
from faal_core.results.class_table import ClassTable
from faal_core.results.image_outcomes import UNBROKEN, Evaluation


def evaluated(labels: np.ndarray, clean: np.ndarray) -> Evaluation:
    """Return an evaluation with those clean predictions, in which no image is broken."""
    zeros, count = np.zeros(len(labels)), len(labels)
    return Evaluation(labels, clean, clean, np.full(count, UNBROKEN), zeros, zeros, zeros, ("",) * count)


def examine(labels: np.ndarray, clean: np.ndarray) -> dict[str, str]:
    """Return the evidence of each warning, by its code."""
    names = tuple(f"c{i}" for i in range(labels.max() + 1))
    return {warning.code: warning.evidence for warning in examine_predictions(evaluated(labels, clean), names)}


def draw_predictions(classes: int, images: int, accuracy: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return labels, `images` per class, and predictions that are right with that chance and random otherwise."""
    generator = np.random.default_rng(seed)
    labels = np.repeat(np.arange(classes), images)
    guesses = generator.integers(0, classes, len(labels))
    return labels, np.where(generator.random(len(labels)) < accuracy, labels, guesses)


@pytest.mark.parametrize(("classes", "images"), [(2, 40), (3, 30), (10, 20), (12, 4), (43, 10), (1000, 2)])
def test_a_shifted_order_of_classes_is_noticed_and_the_right_one_is_stated(classes: int, images: int) -> None:
    """Where every output means the class before it, the warning says how many images the right order would make right."""
    labels, right = draw_predictions(classes, images, 0.9)
    evidence = examine(labels, (right + 1) % classes)
    fitting = int((labels == right).sum())
    assert f"and {fitting:,} would be" in evidence["classes-in-another-order"]
    if classes == 3:
        assert evidence["classes-in-another-order"].endswith("otherwise: c2, c0, c1")
    if classes == 43:
        assert "output 0 is c42, 1 is c0, " in evidence["classes-in-another-order"]


@pytest.mark.parametrize(("classes", "images"), [(10, 20), (43, 10), (1000, 5)])
def test_two_exchanged_classes_among_many_are_noticed(classes: int, images: int) -> None:
    """For a network that is always right but for two exchanged classes, the warning names the two."""
    labels = np.repeat(np.arange(classes), images)
    order = np.arange(classes)
    order[[3, 7]] = 7, 3
    evidence = examine(labels, order[labels])
    assert set(evidence) == {"classes-in-another-order"}
    names = "c0, c1, c2, c7" if classes <= 12 else "output 3 is c7, 7 is c3"
    assert names in evidence["classes-in-another-order"]


@pytest.mark.parametrize(("classes", "images"), [(2, 50), (10, 30), (43, 20), (1000, 3)])
@pytest.mark.parametrize("accuracy", [0.3, 0.6, 1.0])
@pytest.mark.parametrize("seed", range(3))
def test_a_weak_network_is_not_said_to_mix_labels_up(classes: int, images: int, accuracy: float, seed: int) -> None:
    """Random mistakes, however many, fit no other order on images that it was not found on."""
    assert examine(*draw_predictions(classes, images, accuracy, seed)) == {}


def test_a_class_that_is_mostly_taken_for_another_is_a_mistake_and_no_order() -> None:
    """Where all shirts are taken for coats, and coats are coats, no renaming makes more images right."""
    labels = np.repeat(np.arange(10), 50)
    assert examine(labels, np.where(labels == 4, 5, labels)) == {}


@pytest.mark.parametrize(("classes", "images"), [(2, 50), (10, 30), (43, 20), (1000, 3)])
@pytest.mark.parametrize("seed", range(3))
def test_guessing_is_noticed_and_nothing_else(classes: int, images: int, seed: int) -> None:
    """Predictions that have nothing to do with the labels are at chance, and fit no order."""
    assert set(examine(*draw_predictions(classes, images, 0.0, seed))) == {"clean-at-chance"}


@pytest.mark.parametrize(
    ("right", "images", "noticed"), [(7, 8, False), (5, 8, True), (0, 8, True), (40, 80, True), (60, 80, False)]
)
def test_chance_is_judged_by_how_many_images_there_are(right: int, images: int, noticed: bool) -> None:
    """Of two classes 5 of 8 right may be guessed, 7 of 8 and 60 of 80 are not."""
    labels = np.arange(images) % 2
    clean = np.where(np.arange(images) < right, labels, 1 - labels)
    assert ("clean-at-chance" in examine(labels, clean)) == noticed


@pytest.mark.parametrize(
    ("right", "images", "message"),
    [
        (14, 20, "There are too few images to tell whether the network is better than guessing."),
        (5, 8, "There are too few images to tell whether the network is better than guessing."),
        (10, 20, "Without any attack the network is no better than guessing."),
        (8, 20, "Without any attack the network is no better than guessing."),
    ],
)
def test_a_rate_above_chance_is_not_said_to_be_at_chance(right: int, images: int, message: str) -> None:
    """Of two classes 14 of 20 right is more than guessing gives, so the warning speaks of too few images; 10 of 20 is not."""
    labels = np.arange(images) % 2
    clean = np.where(np.arange(images) < right, labels, 1 - labels)
    (warning,) = examine_predictions(evaluated(labels, clean), ("a", "b"))
    assert (warning.code, warning.message) == ("clean-at-chance", message)


@pytest.mark.parametrize("classes", [2, 10, 1000])
def test_one_answer_for_all_is_noticed(classes: int) -> None:
    """A network that says the same class of every image is named with that class; where nearly all are of it, it is not."""
    labels = np.repeat(np.arange(classes), 20)
    evidence = examine(labels, np.full(len(labels), 1))
    assert "are classified as 'c1'; 20 belong to that class" in evidence["one-answer"]
    rare = np.concatenate([np.zeros(190, int), np.ones(10, int)])
    assert examine(rare, np.zeros(200, int)) == {}


def test_classes_of_few_images_are_named() -> None:
    """A class of two images has an interval of nearly all rates; one of fifty has not."""
    labels = np.array([0] * 2 + [1] * 50 + [2] * 1)
    table = ClassTable(evaluated(labels, labels), ("rare", "common", "single"), 0, 0.95)
    (warning,) = check_class_sizes(table.build_rows())
    assert "the intervals of 2 of 3 classes" in warning.evidence
    assert warning.evidence.endswith("rare (2), single (1)")
    assert check_class_sizes((table.build_rows()[1],)) == []
