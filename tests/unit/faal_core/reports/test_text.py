"""Test the format of numbers and names, and the sentences of the summary."""

import numpy as np
import pytest

from faal_core.reports import html, terminal, text, wording
from faal_core.results.comparison import compare
from faal_core.results.documents import AttackRow, AuditReport, Interval, Rate
from faal_core.results.finetune_documents import CellComparison, CellRow, Comparison, FinetuneReport
from tests.sample_reports import sample_audit, sample_finetune

HOSTILE = "\x1b[2Jevil\u202e\nname"


def test_rates_and_changes_have_one_decimal_and_a_sign_where_they_are_changes() -> None:
    """A rate is in per cent with one decimal; a change is in signed points, and a change of zero has no minus."""
    assert text.percent(0.3804) == "38.0 %"
    assert text.points(0.0721) == "+7.2"
    assert text.points(-0.0072) == "−0.7"
    assert text.points(-0.0004) == "+0.0"
    assert text.with_bounds(Rate(count=3, images=8, rate=0.375, low=0.085, high=0.755)) == "37.5 % (8.5–75.5)"
    assert wording.change_with_bounds(Interval(value=0.072, low=-0.021, high=0.123)) == "+7.2 points (−2.1 to +12.3)"


@pytest.mark.parametrize(("p", "expected"), [(0.0312, "0.031"), (1.0, "1.000"), (0.00099, "< 0.001"), (0.0, "< 0.001")])
def test_small_p_values_are_only_bounded(p: float, expected: str) -> None:
    """A p-value has three decimals, and below a thousandth it is written as a bound."""
    assert wording.p_value(p) == expected


def test_shown_names_cannot_move_the_cursor_or_turn_the_line() -> None:
    """Control and direction characters are replaced, line breaks become blanks, letters of any script stay."""
    assert text.sanitise(HOSTILE) == "\ufffd[2Jevil\ufffd name"
    assert text.sanitise("Größe 大きさ") == "Größe 大きさ"


def test_the_audit_summary_names_worst_class_gap_and_chance() -> None:
    """The sentences state the mean, the worst class with its interval, the gap, and the gap by chance."""
    report = sample_audit()
    counts = {row.name: row.robust.count for row in report.classes}
    worst = min(counts, key=lambda name: counts[name])
    first, caveat, second, confidence = text.verdict(report)
    assert f"{sum(counts.values()) / 30:.1f} % (" in first
    assert f"{counts[worst] / 3:.1f} % (" in first
    assert first.startswith("Accuracy under the preset pgd-20 is ")
    assert first.endswith(f"in the worst class, {worst} (upper bound, first look).")
    assert "the preset fast" in caveat
    assert f"{sum(counts.values()) / 30 - counts[worst] / 3:.1f} points" in second
    assert second.endswith("by chance: unequal.")
    assert confidence == "Intervals have 95 % confidence."


def test_equal_classes_are_not_called_unequal() -> None:
    """A gap that chance explains, here zero, is no evidence of unequal classes."""
    assert text.verdict(sample_audit(robust=[1.0] * 10))[-2].endswith("no evidence that they are unequal.")


TARGETED = {"type": "apgd", "loss": "dlr", "targets": 9, "iterations": 100}


@pytest.mark.parametrize(
    ("attacks", "attack_name", "first_look"),
    [
        ("quick", "PGD-10 (cross-entropy)", True),
        ("pgd-100", "the preset pgd-100", True),
        ("fast", "the preset fast", False),
        ("standard", "the preset standard", False),
        (
            [{"type": "pgd", "steps": 50}, {"type": "square", "queries": 10}],
            "PGD-50 (cross-entropy) and Square-10",
            True,
        ),
        ([TARGETED], "APGD-100 (dlr, 9 targets)", False),
        ([{"type": "pgd", "steps": 7}, {**TARGETED, "margin_left": 0.5}] * 2, "4 attacks", True),
    ],
)
def test_the_first_sentence_names_the_attack_and_its_strength(
    attacks: str | list[dict], attack_name: str, first_look: bool
) -> None:
    """The first sentence names the attacks, and calls attacks weaker than `fast` a first look."""
    report = sample_audit(attacks=attacks)
    first = text.verdict(report)[0]
    assert first.startswith(f"Accuracy under {attack_name} is ")
    assert report.first_look == first_look == ("upper bound, first look" in first)


def test_older_documents_know_whether_they_are_a_first_look() -> None:
    """An older document, without the field, gets `first_look` from its attacks."""
    for attacks, first_look in (("quick", True), ("standard", False)):
        fields = sample_audit(attacks=attacks).model_dump(mode="json", exclude={"first_look"})
        assert AuditReport.model_validate(fields).first_look == first_look


def test_nothing_robust_is_a_failure_and_no_comparison() -> None:
    """If no image is robust, the first sentence says so; no sentence mentions equal classes or a stronger attack."""
    report = sample_audit(robust=[-9.0] * 10)
    sentences = text.verdict(report)
    assert sentences[0] == "Accuracy under the preset pgd-20 is 0.0 % (0.0–0.1): no image of any class is robust."
    assert not any("equal" in sentence or "stronger" in sentence for sentence in sentences)
    assert report.robust.verdict == "at-chance"


def test_equal_classes_no_better_than_a_constant_answer_are_reported() -> None:
    """The sentence about ten equal classes at two per cent adds that they are no better than a constant answer."""
    report = sample_audit(robust=[0.02] * 10)
    assert 0 < report.robust.mean.count < 300
    assert report.robust.verdict == "at-chance"
    assert "a classifier that gives every image the same class may be as robust" in text.verdict(report)[-2]


@pytest.mark.parametrize(
    ("verdict", "expected"),
    [("better", "is more robust"), ("worse", "is less robust"), ("unclear", "shows no clear change")],
)
def test_the_worst_class_changed_only_where_its_paired_test_says_so(verdict: str, expected: str) -> None:
    """The first sentence of a fine-tuning names the class that was worst before, and the result of its McNemar test."""
    report = sample_finetune()
    worst = report.robust.worst_class_before
    rows = tuple(
        row.model_copy(update={"verdict": verdict, "gained": 35, "lost": 4, "p_adjusted": 0.02})
        if row.name == worst
        else row
        for row in report.robust.classes
    )
    robust = report.robust.model_copy(update={"classes": rows})
    first = text.verdict(report.model_copy(update={"robust": robust}))[0]
    assert f"{worst}, the worst class before, {expected}: " in first
    assert "points (35 images gained, 4 lost)" in first
    assert "Holm" not in first


def build_comparison(names: tuple[str, ...], before: list[float], after: list[float], images: int = 500) -> Comparison:
    """Return a comparison with those accuracies before and after; lost images are the first ones."""
    labels = np.repeat(np.arange(len(names)), images)
    luck = np.tile(np.arange(images) / images, len(names))
    return compare(labels, luck < np.asarray(before)[labels], luck < np.asarray(after)[labels], names, 0.95)


A, B = [0.8, 0.8], [0.3, 0.6]  # clean and robust accuracies of two classes, "a" the worst


@pytest.mark.parametrize(
    ("clean", "robust", "bound", "outcome", "tone", "expected"),
    [
        (A, [0.45, 0.6], None, "better", "good", "no accuracy fell significantly"),
        (A, [0.45, 0.55], None, "better", "mixed", "robust accuracy of b (−5.0 points)"),
        (A, [0.45, 0.55], 0.01, "mixed", "mixed", "robust accuracy of b (−5.0 points)"),
        ([0.8, 0.5], [0.45, 0.6], None, "mixed", "mixed", "mean clean accuracy (−15.0 points), clean accuracy of b"),
        (A, [0.3, 0.6], None, "unclear", "neutral", "shows no clear change"),
        ([0.8, 0.5], B, None, "worse", "bad", "Significantly lower than before: mean clean accuracy (−15.0 points)"),
        (A, [0.45, 0.3], None, "worse", "bad", "Significantly lower than before: "),
    ],
    ids=["better", "class falls", "bounded class falls", "clean mean falls", "nothing", "ruined", "another is worst"],
)
def test_the_outcome_counts_every_significant_fall(
    clean: list[float], robust: list[float], bound: float | None, outcome: str, tone: str, expected: str
) -> None:
    """A better outcome needs a better worst class and no bounded fall; every significant fall is in the first sentence."""
    fields = sample_finetune().model_dump(exclude={"outcome", "clean", "robust", "candidates", "selected_candidate"})
    fields["spec"]["training"]["max_class_drop"] = bound
    names = ("a", "b")
    report = FinetuneReport(
        **fields, clean=build_comparison(names, A, clean), robust=build_comparison(names, B, robust)
    )
    assert (report.outcome, text.tone(report)) == (outcome, tone)
    assert expected in text.verdict(report)[0]


@pytest.mark.parametrize(
    ("cells", "outcome", "expected"),
    [
        ([0.5, 0.2, 0.6], "unclear", "b × north, the worst class × group cell before, shows no clear change"),
        ([0.5, 0.35, 0.6], "better", "b × north, the worst class × group cell before, is more robust: +15.0 points"),
        ([0.5, 0.35, 0.5], "better", "significantly lower than before: robust accuracy of b × south (−10.0 points)"),
        ([0.4, 0.2, 0.5], "worse", "Significantly lower than before: robust accuracy of b × south (−10.0 points). "),
    ],
    ids=["nothing", "better", "another falls", "worse"],
)
def test_the_worst_cell_decides_where_there_are_cells(cells: list[float], outcome: str, expected: str) -> None:
    """With class × group cells, outcome and first sentence are about the worst cell, and list cells that fell."""
    fields = sample_finetune().model_dump(
        exclude={"outcome", "clean", "robust", "candidates", "selected_candidate", "cells"}
    )
    names = ("a × all groups", "b × north", "b × south")
    rows = tuple(
        CellRow(name=name, class_name=name[0], groups=("g",), training_images=9, test_images=500) for name in names
    )
    clean, robust = build_comparison(names, [0.8] * 3, [0.8] * 3), build_comparison(names, [0.5, 0.2, 0.6], cells)
    classes = build_comparison(("a", "b"), A, A)
    report = FinetuneReport(
        **fields,
        clean=classes,
        robust=classes,
        cells=CellComparison(column="site", cells=rows, clean=clean, robust=robust),
    )
    assert report.outcome == outcome
    first, second, *_ = text.verdict(report)
    assert expected in first
    assert f"from 20.0 %, b × north, to {100 * min(cells):.1f} %, b × north: {text.points(min(cells) - 0.2)}" in second


def test_cells_of_kept_original_weights_are_not_compared() -> None:
    """Where no new weights were made, one sentence names the worst cell, and there is no table of changes."""
    report, names = sample_finetune(), ("a × all groups", "b × north")
    rows = tuple(
        CellRow(name=name, class_name="a", groups=("g",), training_images=9, test_images=500) for name in names
    )
    rates = build_comparison(names, [0.8, 0.2], [0.8, 0.2])
    cells = CellComparison(column="site", cells=rows, clean=rates, robust=rates)
    kept = report.model_copy(update={"outcome": "kept-original", "selected_candidate": 0, "cells": cells})
    assert text.verdict(kept)[2] == "The robust accuracy of the worst cell is 20.0 %, b × north."
    assert "cell by site" not in terminal.summary(kept)
    assert "Cell by cell" not in html.render(kept)
    assert "cell by site" in terminal.summary(report.model_copy(update={"cells": cells}))


def test_a_long_list_of_falls_is_cut_to_the_largest() -> None:
    """Means come first, then the classes that lost most; the others are counted."""
    names = tuple("abcdef")
    clean = build_comparison(names, [0.9] * 6, [0.8, 0.7, 0.6, 0.5, 0.4, 0.9])
    fields = sample_finetune().model_dump(exclude={"outcome", "clean", "robust", "candidates", "selected_candidate"})
    report = FinetuneReport(**fields, clean=clean, robust=build_comparison(names, [0.5] * 6, [0.5] * 6))
    first = text.verdict(report)[0]
    assert (
        "mean clean accuracy (−25.0 points), clean accuracy of e (−50.0 points), clean accuracy of d (−40.0 points), 3 more"
        in first
    )


def test_the_finetune_summary_counts_the_classes() -> None:
    """The numbers of classes better, worse and unclear are those of the paired tests."""
    report = sample_finetune()
    better = sum(row.verdict == "better" for row in report.robust.classes)
    worse = sum(row.verdict == "worse" for row in report.robust.classes)
    assert better
    expected = f"Classes by robust accuracy: {better} better, {worse} worse, {10 - better - worse} unclear."
    assert expected in text.verdict(report)


@pytest.mark.parametrize(
    ("share", "expected"),
    [
        (
            0.0,
            "the weights as they were given, since epoch 3 of 3 gained no more than a standard error within the bounds",
        ),
        (0.75, "the weights 75.0 % of the way from the given ones to those of epoch 3 of 3"),
        (1.0, "the weights of epoch 3 of 3"),
    ],
)
def test_the_finetune_summary_says_which_weights_were_kept(share: float, expected: str) -> None:
    """The summary says whether the given weights, the best epoch's or an interpolation of both were selected."""
    report = sample_finetune().model_copy(update={"selected_interpolation": share})
    assert f"FAAL kept {expected}." in text.verdict(report)


def test_finished_attacks_and_epochs_are_one_line_each() -> None:
    """The line of an attack has the images that it broke; the line of an epoch has the loss and any validation rates."""
    attack = AttackRow(name="PGD-20", tried=2802, broken=442, forward=0, backward=0, seconds=12.54)
    assert terminal.row_line("before: PGD-20", attack) == "before: PGD-20: 442 of 2,802 broken in 12.5 s"
    assert "loss 1.900, validation images 71.0 % robust, 35.0 %" in terminal.row_line("", sample_finetune().epochs[0])
    assert terminal.row_line("", sample_finetune(validated=False).epochs[0]) == "epoch 1: loss 1.900, 9.1 s"
