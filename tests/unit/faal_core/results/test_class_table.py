"""Test the class table on an evaluation small enough to count by hand."""

from dataclasses import replace

import numpy as np
import pytest

from faal_core.results.class_table import ClassTable, build_group_table
from faal_core.results.comparison import compare
from faal_core.results.image_outcomes import Evaluation, Rows

NAMES = ("cat", "dog")


def rows_of(labels: Rows, clean: Rows, under_attack: Rows, broken_by: Rows) -> Evaluation:
    """Return an evaluation with those outcomes; distances, margins and digests are the same for every image."""
    same = np.zeros(len(labels))
    return Evaluation(labels, clean, under_attack, broken_by, same, same, same, ("",) * len(labels))


@pytest.fixture
def evaluation() -> Evaluation:
    """Return five cats (one wrong when clean, one broken by attack 0, one by attack 1) and three robust dogs."""
    return rows_of(
        labels=np.array([0, 0, 0, 0, 0, 1, 1, 1]),
        clean=np.array([1, 0, 0, 0, 0, 1, 1, 1]),
        under_attack=np.array([1, 1, 1, 0, 0, 1, 1, 1]),
        broken_by=np.array([-1, 0, 1, -1, -1, -1, -1, -1]),
    )


def test_counts_fall_from_clean_to_the_last_attack(evaluation: Evaluation) -> None:
    """An image counts as robust after attack k if it is correct when clean and no attack up to k broke it."""
    cat, dog = ClassTable(evaluation, NAMES, attacks=2, confidence=0.95).build_rows()
    assert [cat.clean.count, *(rate.count for rate in cat.after_attack), cat.robust.count] == [4, 3, 2, 2]
    assert [dog.clean.count, *(rate.count for rate in dog.after_attack), dog.robust.count] == [3, 3, 3, 3]
    assert cat.robust.rate == 2 / 5


def test_spread_names_the_worst_class(evaluation: Evaluation) -> None:
    """Mean, smallest class rate, gap and tails equal the values computed by hand."""
    table = ClassTable(evaluation, NAMES, attacks=2, confidence=0.95)
    spread = table.build_spread(table.robust)
    assert spread.worst_class == "cat"
    assert spread.mean.rate == 5 / 8
    assert spread.worst.value == 2 / 5
    assert spread.gap.value == pytest.approx((2 / 5 + 1) / 2 - 2 / 5)
    assert spread.tail_20 == 2 / 5
    assert spread.worst.low < 2 / 5 < spread.worst.high
    assert spread.verdict != "unequal"


def test_a_large_difference_is_no_chance() -> None:
    """Rates of 30 % and 80 % on 300 images each are called unequal."""
    labels = np.repeat([0, 1], 300)
    right = np.concatenate([np.arange(300) < 90, np.arange(300) < 240])
    predictions = np.where(right, labels, 1 - labels)
    table = ClassTable(rows_of(labels, predictions, predictions, np.full(600, -1)), NAMES, 0, 0.95)
    assert table.build_spread(table.robust).verdict == "unequal"


def test_a_sequential_mean_weighs_classes_by_the_images_that_were_available() -> None:
    """Rates of 30 % and 80 % with 400 and 100 images available have the mean 40 %, however many of them were audited."""
    labels = np.repeat([0, 1], [300, 60])
    right = np.concatenate([np.arange(300) < 90, np.arange(60) < 48])
    predictions = np.where(right, labels, 1 - labels)
    rows = rows_of(labels, predictions, predictions, np.full(360, -1))
    table = ClassTable(rows, NAMES, 0, 0.95, available=np.array([400, 100]))
    mean = table.build_spread(table.robust).mean
    assert mean.rate == pytest.approx(0.4)
    assert (mean.count, mean.images) == (138, 360)
    assert mean.low < 0.4 < mean.high


def test_confusion_counts_pairs_of_label_and_prediction(evaluation: Evaluation) -> None:
    """The confusion counts clean errors and broken images by label and predicted class."""
    (only,) = ClassTable(evaluation, NAMES, attacks=2, confidence=0.95).count_confusions()
    assert (only.true, only.predicted, only.count) == ("cat", "dog", 3)


def test_compare_is_paired() -> None:
    """`compare` counts gains and losses image by image, also if the rate is the same."""
    labels = np.repeat([0, 1], 40)
    before = np.concatenate([np.arange(40) < 20, np.arange(40) < 20])
    after = np.concatenate([np.arange(40) >= 20, np.arange(40) < 36])
    comparison = compare(labels, before, after, NAMES, 0.95)
    cat, dog = comparison.classes
    assert (cat.gained, cat.lost, cat.verdict) == (20, 20, "unclear")
    assert (dog.gained, dog.lost, dog.verdict) == (16, 0, "better")
    assert dog.p_adjusted == pytest.approx(2 * 2 * 0.5**16)
    assert comparison.mean_change.value == 16 / 80
    assert comparison.mean_change.low > 0
    assert (comparison.worst_class_before, comparison.worst_class_after) == ("cat", "cat")


def test_compare_calls_a_loss_worse() -> None:
    """A class that loses sixteen images and gains none is worse, not unclear."""
    labels = np.repeat([0, 1], 40)
    before, after = np.ones(80, dtype=bool), np.concatenate([np.ones(40, dtype=bool), np.arange(40) >= 16])
    assert [row.verdict for row in compare(labels, before, after, NAMES, 0.95).classes] == ["unclear", "worse"]


def test_a_gap_that_equals_the_one_by_chance_is_no_evidence() -> None:
    """A gap equal to the one by chance is no evidence: 1, 5 and 4 of 7 correct give 10/21 − 1/7 = 1/3, up to rounding."""
    correct = np.concatenate([np.arange(7) < count for count in (1, 5, 4)])
    labels = np.repeat(np.arange(3), 7)
    clean = np.where(correct, labels, (labels + 1) % 3)
    rows = rows_of(labels, clean, clean, np.full(21, -1))
    table = ClassTable(rows, ("a", "b", "c"), attacks=0, confidence=0.95)
    spread = table.build_spread(table.clean)
    assert spread.gap.value == pytest.approx(spread.gap_by_chance, abs=1e-12)
    assert spread.verdict != "unequal"


@pytest.mark.parametrize(
    ("right", "verdict"),
    [(30, "at-chance"), (33, "at-chance"), (37, "no-evidence"), (150, "no-evidence"), (0, "at-chance")],
)
def test_equal_classes_pass_only_where_they_are_surely_better_than_a_constant_answer(right: int, verdict: str) -> None:
    """Ten equal classes of 300 images pass from 12.3 %; at 10 and 11 % guessing explains the rate (n = 3,000)."""
    labels = np.repeat(np.arange(10), 300)
    place = np.tile(np.arange(300), 10)
    clean = np.where(place < right, labels, (labels + 1 + place % 9) % 10)
    table = ClassTable(rows_of(labels, clean, clean, np.full(3000, -1)), tuple("abcdefghij"), 0, 0.95)
    assert table.build_spread(table.clean).verdict == verdict


def test_answers_that_no_image_has_as_a_label_are_classes_too() -> None:
    """Predicted classes without images count too: 45 % correct of two classes among ten is far better than a constant answer."""
    labels = np.repeat([0, 1], 500)
    place = np.tile(np.arange(500), 2)
    clean = np.where(place < 225, labels, 2 + place % 8)
    table = ClassTable(rows_of(labels, clean, clean, np.full(1000, -1)), tuple("abcdefghij"), 0, 0.95)
    assert table.build_spread(table.clean).verdict == "no-evidence"


def test_groups_are_counted_like_classes(evaluation: Evaluation) -> None:
    """Groups count the same images as classes do, with the same kind of intervals."""
    members = np.array([0, 1, 0, 1, 0, 1, 0, 1])
    table = build_group_table("camera", ClassTable(evaluation, ("old", "new"), 2, 0.95, members))
    assert [(row.name, row.images, row.clean.count, row.robust.count) for row in table.groups] == [
        ("old", 4, 3, 2),
        ("new", 4, 4, 3),
    ]
    assert (table.column, table.robust.worst_class, table.robust.worst.value) == ("camera", "old", 0.5)
    classes = ClassTable(evaluation, NAMES, 2, 0.95)
    assert table.robust.mean == classes.build_spread(classes.robust).mean


def test_one_group_alone_is_not_unequal(evaluation: Evaluation) -> None:
    """A column with a single group has no gap."""
    table = build_group_table("camera", ClassTable(evaluation, ("old",), 2, 0.95, np.zeros(8, np.int64)))
    assert table.robust.gap.value == 0
    assert table.robust.verdict != "unequal"


def with_an_empty_class(evaluation: Evaluation) -> tuple[Evaluation, tuple[str, ...]]:
    """Return the same images with a class without images between the two."""
    columns = {name: 2 * getattr(evaluation, name) for name in ("labels", "clean", "attacked")}
    return replace(evaluation, **columns), ("cat", "cow", "dog")


def test_a_class_without_images_changes_no_number(evaluation: Evaluation) -> None:
    """A class without images does not change the rows, spreads and confusions of the other classes."""
    empty, names = with_an_empty_class(evaluation)
    tables = [ClassTable(evaluation, NAMES, 2, 0.95), ClassTable(empty, names, 2, 0.95)]
    plain, extended = (
        [table.build_rows(), table.build_spread(table.robust), table.build_spread(table.clean)] for table in tables
    )
    assert plain == extended
    assert tables[0].count_confusions() == tables[1].count_confusions()
    assert [row.name for row in tables[1].build_rows()] == ["cat", "dog"]


def test_predictions_of_a_class_without_images_are_counted(evaluation: Evaluation) -> None:
    """The confusion counts images that are classified as a class without images."""
    empty, names = with_an_empty_class(evaluation)
    empty = replace(empty, attacked=np.where(empty.robust, empty.attacked, 1))
    (only,) = ClassTable(empty, names, 2, 0.95).count_confusions()
    assert (only.true, only.predicted, only.count) == ("cat", "cow", 3)


def test_compare_leaves_out_classes_without_images() -> None:
    """Changes, Holm's correction and bounds ignore classes without images."""
    labels, before = np.repeat([0, 1], 40), np.arange(80) % 40 < 20
    after = np.arange(80) % 40 < 36
    for places, names in (([0, 3], ("cat", "x", "y", "dog")), ([1, 2], ("x", "cat", "dog", "y"))):
        assert compare(np.asarray(places)[labels], before, after, names, 0.95) == compare(
            labels, before, after, NAMES, 0.95
        )
