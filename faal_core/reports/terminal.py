"""A report as text for a terminal: its warnings, its verdict, and its classes and groups as aligned tables."""

import unicodedata
from collections.abc import Sequence

from faal_core.reports.audit_text import after_attacks, attack_key, attacked_cells, group_verdict
from faal_core.reports.finetune_text import audits, training_cut
from faal_core.reports.text import verdict, warnings
from faal_core.reports.wording import p_value, percent, points, shown, with_bounds, worst_first
from faal_core.results.documents import AttackRow, AuditReport
from faal_core.results.finetune_documents import EpochRow, FinetuneReport

NAME_WIDTH = 28  # columns of a terminal
CONDITION = " where "  # in the name of an attack that is tried only on images that are close to being broken


def summary(report: AuditReport | FinetuneReport) -> str:
    """Warnings first, then the verdict, then the classes, for a terminal."""
    alarms = [
        f"Warning{f' ({when})' if when else ''}: {warning.message} {warning.advice} ({warning.code}: {warning.evidence})"
        for when, warning in warnings(report)
    ]
    cut = [training_cut(report)] if isinstance(report, FinetuneReport) and training_cut(report) else []
    classes = class_table(report)
    if len(audits(report)) == 1:
        (audit,) = audits(report).values()
        classes += "".join(f"\nafter {line}" for line in attack_key(audit))
    sentences = [shown(line) for line in (*alarms, *cut)]  # names of classes and groups can turn the text around
    return "\n\n".join([*sentences, "\n".join(map(shown, verdict(report))), classes, *group_tables(report)])


def class_table(report: AuditReport | FinetuneReport, limit: int = 30) -> str:
    """The classes, lowest robust accuracy first, one a line; past `limit` a last line says how many are left out."""
    (first, *others) = audits(report).values()
    table = _finetune_rows(report) if isinstance(report, FinetuneReport) and others else _audit_rows(first)
    hidden = len(table) - 2 - limit
    shortened = [*table[: 1 + limit], table[-1]] if hidden > 0 else table
    lines = _aligned(shortened)
    if hidden > 0:
        lines.insert(-1, f"… {hidden} more classes, all more robust than these, are in the report")
    return "\n".join(lines)


def group_tables(report: AuditReport | FinetuneReport) -> list[str]:
    """The groups of each column, lowest robust accuracy first, one a line; of a fine-tuning, before and after."""
    judged = audits(report)
    heads = [f"{rate} {when}".rstrip() for when in judged for rate in ("clean", "robust")]
    tables = []
    for at, last in enumerate([*judged.values()][-1].groups):
        found = [[last.column, *heads]]
        for row in worst_first(last.groups):
            cells = (with_bounds(rate) for audit in judged.values() for rate in audit.groups[at].groups[row].rates)
            found.append([last.groups[row].name, *cells])
        tables.append("\n".join([shown(group_verdict(last)), *_aligned(found)]))
    return tables


def _audit_rows(report: AuditReport) -> list[list[str]]:
    numbers = (f"after {number}" for number in range(1, len(report.attacks) + 1))
    table = [["class", "clean", "robust", *numbers]]
    for c in worst_first(report.classes):
        row = report.classes[c]
        attacked = attacked_cells(report, row.after_attack)
        table.append([row.name, with_bounds(row.clean), with_bounds(row.robust), *attacked])
    mean = (with_bounds(spread.mean) for spread in (report.clean, report.robust))
    return [*table, ["mean", *mean, *after_attacks(report)]]


def _finetune_rows(report: FinetuneReport) -> list[list[str]]:
    table = [["class", "robust before", "robust after", "points", "gained", "lost", "p (Holm)", "verdict"]]
    for c in worst_first(report.after.classes):
        before, after, change = report.before.classes[c], report.after.classes[c], report.robust.classes[c]
        table.append(
            [
                after.name,
                with_bounds(before.robust),
                with_bounds(after.robust),
                points(change.after - change.before),
                str(change.gained),
                str(change.lost),
                p_value(change.p_adjusted),
                change.verdict,
            ]
        )
    means = [with_bounds(audit.robust.mean) for audit in (report.before, report.after)]
    table.append(["mean", *means, points(report.robust.mean_change.value), "", "", "", ""])
    return table


def _cells(text: str) -> int:
    """How many columns of a terminal the text fills."""
    return sum(0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


def _shortened(name: str) -> str:
    """The name cut to NAME_WIDTH columns, with an ellipsis where something was cut."""
    clean = shown(name)
    if _cells(clean) <= NAME_WIDTH:
        return clean
    while _cells(clean) >= NAME_WIDTH:
        clean = clean[:-1]
    return clean + "…"


def _aligned(table: Sequence[Sequence[str]]) -> list[str]:
    """The rows as lines: first column to the left, the others to the right."""
    named = [[_shortened(row[0]), *row[1:]] for row in table]
    widths = [max(_cells(cell) for cell in column) for column in zip(*named, strict=True)]
    lines = []
    for first, *rest in named:
        padded = (" " * (width - _cells(cell)) + cell for cell, width in zip(rest, widths[1:], strict=True))
        lines.append("  ".join([first + " " * (widths[0] - _cells(first)), *padded]).rstrip())
    return lines


def _attack_outcome(row: AttackRow) -> str:
    """What the attack broke, or why it broke nothing: it was due on no image, or the time was over."""
    if row.tried == 0:
        return "no image was close enough to need it" if CONDITION in row.name else "no image was left to try it on"
    if row.untried and not row.forward:
        return f"{row.untried:,} of {row.tried:,} not tried"
    unfinished = f", {row.untried:,} not finished" if row.untried else ""
    return f"{row.broken:,} of {row.tried:,} broken{unfinished} in {row.seconds:.1f} s"


def row_line(stage: str, row: AttackRow | EpochRow) -> str:
    """The attack or epoch that was finished in that stage, in one line, while a computation runs."""
    if isinstance(row, AttackRow):
        return f"{stage}: {_attack_outcome(row)}"
    held_out = (
        f", held-out images {percent(row.held_out_mean)} robust, {percent(row.held_out_worst)} in the worst class"
        if row.held_out_mean is not None and row.held_out_worst is not None
        else ""
    )
    cut = "" if row.share == 1 else f", {percent(row.share)} of it"
    return f"epoch {row.epoch}{cut}: loss {row.loss:.3f}{held_out}, {row.seconds:.1f} s"
