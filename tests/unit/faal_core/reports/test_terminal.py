"""The tables for the terminal: aligned, worst first, and after the warnings."""

from faal_core.reports import terminal, text
from tests.sample_reports import FASHION, WARNING, sample_audit, sample_finetune

HOSTILE = "\x1b[2Jevil\u202e\nname"


def test_the_table_runs_from_the_worst_class_to_the_mean() -> None:
    """The table has one line a class by ascending robust accuracy, between a head and the mean."""
    report = sample_audit()
    head, *lines, mean = terminal.class_table(report).splitlines()
    by_rate = sorted(report.classes, key=lambda row: row.robust.rate)
    assert head.split()[0] == "class"
    assert [line.split("  ")[0] for line in lines] == [row.name for row in by_rate]
    assert all(text.with_bounds(row.robust) in line for row, line in zip(by_rate, lines, strict=True))
    assert text.with_bounds(report.robust.mean) in mean


def test_the_table_of_a_finetuning_has_before_after_and_the_test() -> None:
    """Each line has both rates with their intervals, images gained and lost, and the verdict."""
    report = sample_finetune()
    line = next(line for line in terminal.class_table(report).splitlines() if line.startswith("shirt"))
    place = FASHION.index("shirt")
    change = report.robust.classes[place]
    assert text.with_bounds(report.before.classes[place].robust) in line
    assert text.with_bounds(report.after.classes[place].robust) in line
    assert line.split()[-5:-3] == [str(change.gained), str(change.lost)]
    assert line.endswith(change.verdict)


def test_columns_are_aligned_whatever_the_names() -> None:
    """Wide letters, long names and control characters do not shift a column."""
    names = ("大きさ", "n" * 200, HOSTILE, "e\u0301", *FASHION[4:])
    lines = terminal.class_table(sample_audit(names=names)).splitlines()
    wide = {"大": 2, "き": 2, "さ": 2, "\u0301": 0}
    assert len({sum(wide.get(c, 1) for c in line) for line in lines}) == 1
    assert any("n" * 20 + "…" in line or "n" * 27 + "…" in line for line in lines)


def test_a_hundred_classes_are_cut_to_the_worst() -> None:
    """A table of a hundred classes lists the worst thirty, the number of omitted classes, and the mean."""
    names = tuple(f"class {i}" for i in range(100))
    report = sample_audit(names=names, robust=[0.3 + i / 200 for i in range(100)], images=40)
    lines = terminal.class_table(report).splitlines()
    assert len(lines) == 1 + 30 + 1 + 1
    assert "70 more classes" in lines[-2]
    assert lines[-1].startswith("mean")


def test_a_summary_begins_with_the_warnings() -> None:
    """Warnings come before the numbers and name the audit, before or after, that raised them."""
    assert terminal.summary(sample_audit(warnings=(WARNING,))).startswith(
        f"Warning: {WARNING.message} {WARNING.advice} (gradients-vanish: 1,230 of 3,000 images)"
    )
    both = sample_finetune(warnings=(WARNING,))
    assert terminal.summary(both).startswith(f"Warning (before and after): {WARNING.message}")
    assert terminal.summary(both).count(WARNING.message) == 1
    other = WARNING.model_copy(update={"evidence": "7 of 3,000 images"})
    unlike = both.model_copy(update={"after": both.after.model_copy(update={"warnings": (other,)})})
    assert terminal.summary(unlike).count(WARNING.message) == 1
    assert "(gradients-vanish: before: 1,230 of 3,000 images; after: 7 of 3,000 images)" in terminal.summary(unlike)
    before = both.model_copy(update={"after": both.after.model_copy(update={"warnings": ()})})
    assert terminal.summary(before).startswith(f"Warning (before): {WARNING.message}")


def test_groups_follow_the_classes() -> None:
    """Each column of groups has a verdict and a table, least robust first; a fine-tuning has them before and after."""
    audit, finetune = sample_audit(groups=("old", "new\u202e")), sample_finetune(groups=("old", "new"))
    (table,) = terminal.group_tables(audit)
    verdict, head, *rows = table.splitlines()
    robust = audit.groups[0].robust
    least = {"old": "old", "new\u202e": "new\ufffd"}[robust.worst_class]
    assert verdict.startswith(f"The least robust group is {least}, {text.with_bounds(robust.worst)}, ")
    assert verdict.endswith("no evidence that they are unequal.")
    assert (head.split(), rows[0].split()[0]) == (["camera", "clean", "robust"], least)
    assert terminal.summary(audit).endswith(table)
    head, *rows = terminal.group_tables(finetune)[0].splitlines()[1:]
    assert head.split() == ["camera", "clean", "before", "robust", "before", "clean", "after", "robust", "after"]
    for row in finetune.before.groups[0].groups:
        assert any(line.startswith(row.name) and text.with_bounds(row.robust) in line for line in rows)


def test_no_name_drives_the_terminal() -> None:
    """Every line of a summary, warnings included, is printable for any names of classes and groups."""
    names = (HOSTILE, *FASHION[1:])
    warning = WARNING.model_copy(update={"message": HOSTILE, "evidence": HOSTILE, "advice": HOSTILE})
    for report in (sample_audit(names=names, warnings=(warning,)), sample_finetune(names=names, warnings=(warning,))):
        assert [line for line in terminal.summary(report).split("\n") if not line.isprintable()] == []
