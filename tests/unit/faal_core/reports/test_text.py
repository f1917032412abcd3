"""How numbers and names are written, what the verdict says, and the table for the terminal."""

import numpy as np
import pytest

from faal_core.per_class import compare
from faal_core.reports import text
from faal_core.reports.documents import AttackRow, Comparison, FinetuneReport, Interval, Rate
from tests.sample_reports import FASHION, WARNING, sample_audit, sample_finetune

HOSTILE = "\x1b[2Jevil\u202e\nname"


def test_rates_and_changes_have_one_decimal_and_a_sign_where_they_are_changes() -> None:
    """A rate is per cent with one decimal; a change is signed points, and no change is not negative."""
    assert text.percent(0.3804) == "38.0 %"
    assert text.points(0.0721) == "+7.2"
    assert text.points(-0.0072) == "−0.7"
    assert text.points(-0.0004) == "+0.0"
    assert text.with_bounds(Rate(count=3, images=8, rate=0.375, low=0.085, high=0.755)) == "37.5 % (8.5–75.5)"
    assert text.change_with_bounds(Interval(value=0.072, low=-0.021, high=0.123)) == "+7.2 points (−2.1 to +12.3)"


@pytest.mark.parametrize(("p", "written"), [(0.0312, "0.031"), (1.0, "1.000"), (0.00099, "< 0.001"), (0.0, "< 0.001")])
def test_small_p_values_are_only_bounded(p: float, written: str) -> None:
    """A p-value has three places, and below a thousandth only that is said."""
    assert text.p_value(p) == written


def test_shown_names_cannot_move_the_cursor_or_turn_the_line() -> None:
    """Control and direction characters are replaced, line breaks become blanks, letters of any script stay."""
    assert text.shown(HOSTILE) == "\ufffd[2Jevil\ufffd name"
    assert text.shown("Größe 大きさ") == "Größe 大きさ"


def test_the_audit_verdict_names_worst_class_gap_and_chance() -> None:
    """The sentences carry the mean, the worst class with its interval, the gap and the band of chance."""
    report = sample_audit()
    counts = {row.name: row.robust.count for row in report.classes}
    worst = min(counts, key=lambda name: counts[name])
    first, second, confidence = text.verdict(report)
    assert f"{sum(counts.values()) / 30:.1f} % (" in first
    assert f"{counts[worst] / 3:.1f} % (" in first
    assert first.endswith(f"in the worst class, {worst}.")
    assert f"{sum(counts.values()) / 30 - counts[worst] / 3:.1f} points" in second
    assert second.endswith("by chance: unequal.")
    assert confidence == "Intervals have 95 % confidence."


def test_equal_classes_are_not_called_unequal() -> None:
    """Where the gap is no larger than chance shows, here none at all, there is no evidence."""
    assert text.verdict(sample_audit(robust=[1.0] * 10))[1].endswith("no evidence that they are unequal.")


@pytest.mark.parametrize(
    ("verdict", "found"),
    [("better", "is more robust"), ("worse", "is less robust"), ("unclear", "shows no clear change")],
)
def test_the_worst_class_changed_only_where_its_paired_test_says_so(verdict: str, found: str) -> None:
    """The first sentence of a fine-tuning names the class that was worst before and claims what its McNemar test shows."""
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
    assert f"{worst}, the worst class before, {found}: " in first
    assert "points (35 images gained, 4 lost, p (Holm) 0.020)" in first


def compared(names: tuple[str, ...], before: list[float], after: list[float], images: int = 500) -> Comparison:
    """Accuracies of those classes before and after, on as many images of each; lost images are the first ones."""
    labels = np.repeat(np.arange(len(names)), images)
    luck = np.tile(np.arange(images) / images, len(names))
    return compare(labels, luck < np.asarray(before)[labels], luck < np.asarray(after)[labels], names, 0.95)


A, B = [0.8, 0.8], [0.3, 0.6]  # clean and robust accuracies of two classes, "a" the worst


@pytest.mark.parametrize(
    ("clean", "robust", "bounded", "outcome", "tone", "said"),
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
    clean: list[float], robust: list[float], bounded: float | None, outcome: str, tone: str, said: str
) -> None:
    """Better needs a better worst class and no bounded fall; any significant fall is in the first sentence and its colour."""
    given = sample_finetune().model_dump(exclude={"outcome", "clean", "robust", "candidates", "selected_candidate"})
    given["spec"]["training"]["max_class_drop"] = bounded
    names = ("a", "b")
    report = FinetuneReport(**given, clean=compared(names, A, clean), robust=compared(names, B, robust))
    assert (report.outcome, text.tone(report)) == (outcome, tone)
    assert said in text.verdict(report)[0]


def test_a_long_list_of_falls_is_cut_to_the_largest() -> None:
    """Means come first, then the classes that lost most; the others are counted."""
    names = tuple("abcdef")
    clean = compared(names, [0.9] * 6, [0.8, 0.7, 0.6, 0.5, 0.4, 0.9])
    given = sample_finetune().model_dump(exclude={"outcome", "clean", "robust", "candidates", "selected_candidate"})
    report = FinetuneReport(**given, clean=clean, robust=compared(names, [0.5] * 6, [0.5] * 6))
    first = text.verdict(report)[0]
    assert (
        "mean clean accuracy (−25.0 points), clean accuracy of e (−50.0 points), clean accuracy of d (−40.0 points), 3 more"
        in first
    )


def test_the_finetune_verdict_counts_the_classes() -> None:
    """The numbers of classes better, worse and unclear are those of the paired tests."""
    report = sample_finetune()
    better = sum(row.verdict == "better" for row in report.robust.classes)
    worse = sum(row.verdict == "worse" for row in report.robust.classes)
    assert better
    said = f"Classes by robust accuracy: {better} better, {worse} worse, {10 - better - worse} unclear."
    assert said in text.verdict(report)


@pytest.mark.parametrize(
    ("share", "said"),
    [
        (0.0, "the weights as they were given, since epoch 3 of 3 did no better within the bounds"),
        (0.75, "the weights 75.0 % of the way from the given ones to those of epoch 3 of 3"),
        (1.0, "the weights of epoch 3 of 3"),
    ],
)
def test_the_finetune_verdict_says_which_weights_were_kept(share: float, said: str) -> None:
    """The given ones, the best epoch's, or some between."""
    report = sample_finetune().model_copy(update={"selected_share": share})
    assert f"Kept are {said}." in text.verdict(report)


def test_the_table_runs_from_the_worst_class_to_the_mean() -> None:
    """One line a class by rising robust accuracy, between a head and the mean."""
    report = sample_audit()
    head, *lines, mean = text.class_table(report).splitlines()
    by_rate = sorted(report.classes, key=lambda row: row.robust.rate)
    assert head.split()[0] == "class"
    assert [line.split("  ")[0] for line in lines] == [row.name for row in by_rate]
    assert all(text.with_bounds(row.robust) in line for row, line in zip(by_rate, lines, strict=True))
    assert text.with_bounds(report.robust.mean) in mean


def test_the_table_of_a_finetuning_has_before_after_and_the_test() -> None:
    """Each line carries both rates with their intervals, images gained and lost, and the verdict."""
    report = sample_finetune()
    line = next(line for line in text.class_table(report).splitlines() if line.startswith("shirt"))
    place = FASHION.index("shirt")
    change = report.robust.classes[place]
    assert text.with_bounds(report.before.classes[place].robust) in line
    assert text.with_bounds(report.after.classes[place].robust) in line
    assert line.split()[-5:-3] == [str(change.gained), str(change.lost)]
    assert line.endswith(change.verdict)


def test_columns_stand_under_each_other_whatever_the_names() -> None:
    """Wide letters, long names and control characters do not shift a column."""
    names = ("大きさ", "n" * 200, HOSTILE, "e\u0301", *FASHION[4:])
    lines = text.class_table(sample_audit(names=names)).splitlines()
    wide = {"大": 2, "き": 2, "さ": 2, "\u0301": 0}
    assert len({sum(wide.get(c, 1) for c in line) for line in lines}) == 1
    assert any("n" * 20 + "…" in line or "n" * 27 + "…" in line for line in lines)


def test_a_hundred_classes_are_cut_to_the_worst() -> None:
    """Only the worst thirty are listed, the number left out is said, and the mean is still there."""
    names = tuple(f"class {i}" for i in range(100))
    report = sample_audit(names=names, robust=[0.3 + i / 200 for i in range(100)], images=40)
    lines = text.class_table(report).splitlines()
    assert len(lines) == 1 + 30 + 1 + 1
    assert "70 more classes" in lines[-2]
    assert lines[-1].startswith("mean")


def test_a_summary_begins_with_the_warnings() -> None:
    """What throws doubt on the numbers comes before them, and says which of the two audits it is of."""
    assert text.summary(sample_audit(warnings=(WARNING,))).startswith(f"Warning: {WARNING.message} {WARNING.advice}")
    assert text.summary(sample_finetune(warnings=(WARNING,))).startswith(f"Warning (before): {WARNING.message}")


def test_finished_attacks_and_epochs_are_one_line_each() -> None:
    """A line for an attack has what it broke; one for an epoch the loss, and held-out rates where there are any."""
    attack = AttackRow(name="PGD-20", tried=2802, broken=442, forward=0, backward=0, seconds=12.54)
    assert text.row_line("before: PGD-20", attack) == "before: PGD-20: 442 of 2,802 broken in 12.5 s"
    assert "loss 1.900, held-out images 71.0 % robust, 35.0 %" in text.row_line("", sample_finetune().epochs[0])
    assert text.row_line("", sample_finetune(held_out=False).epochs[0]) == "epoch 1: loss 1.900, 9.1 s"


def test_groups_follow_the_classes() -> None:
    """Each column of groups has its verdict and its table, least robust first; of a fine-tuning, before and after."""
    audit, finetune = sample_audit(groups=("old", "new\u202e")), sample_finetune(groups=("old", "new"))
    (table,) = text.group_tables(audit)
    verdict, head, *rows = table.splitlines()
    robust = audit.groups[0].robust
    least = {"old": "old", "new\u202e": "new\ufffd"}[robust.worst_class]
    assert verdict.startswith(f"Least robust is {least}, {text.with_bounds(robust.worst)}, ")
    assert verdict.endswith("no evidence that they are unequal.")
    assert (head.split(), rows[0].split()[0]) == (["camera", "clean", "robust"], least)
    assert text.summary(audit).endswith(table)
    head, *rows = text.group_tables(finetune)[0].splitlines()[1:]
    assert head.split() == ["camera", "clean", "before", "robust", "before", "clean", "after", "robust", "after"]
    for row in finetune.before.groups[0].groups:
        assert any(line.startswith(row.name) and text.with_bounds(row.robust) in line for line in rows)
