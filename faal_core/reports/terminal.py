"""A report as text for a terminal: its warnings, its verdict, and its classes and groups as aligned tables."""

import unicodedata
from collections.abc import Sequence

from faal_core.reports.documents import AttackRow, AuditReport
from faal_core.reports.finetune_documents import EpochRow, FinetuneReport
from faal_core.reports.text import (
    after_attacks,
    group_verdict,
    p_value,
    percent,
    points,
    shown,
    training_cut,
    verdict,
    warnings,
    with_bounds,
    worst_first,
)

NAME_WIDTH = 28  # columns of a terminal


def summary(report: AuditReport | FinetuneReport) -> str:
    """Warnings first, then the verdict, then the classes, for a terminal."""
    alarms = [
        f"Warning{f' ({when})' if when else ''}: {warning.message} {warning.advice}"
        for when, warning in warnings(report)
    ]
    cut = [training_cut(report)] if isinstance(report, FinetuneReport) and training_cut(report) else []
    return "\n\n".join([*alarms, *cut, "\n".join(verdict(report)), class_table(report), *group_tables(report)])


def class_table(report: AuditReport | FinetuneReport, limit: int = 30) -> str:
    """The classes, lowest robust accuracy first, one a line; past `limit` a last line says how many are left out."""
    table = _audit_rows(report) if isinstance(report, AuditReport) else _finetune_rows(report)
    hidden = len(table) - 2 - limit
    shortened = [*table[: 1 + limit], table[-1]] if hidden > 0 else table
    lines = _aligned(shortened)
    if hidden > 0:
        lines.insert(-1, f"… {hidden} more classes, all more robust than these, are in the report")
    return "\n".join(lines)


def group_tables(report: AuditReport | FinetuneReport) -> list[str]:
    """The groups of each column, lowest robust accuracy first, one a line; of a fine-tuning, before and after."""
    audits = {"": report} if isinstance(report, AuditReport) else {" before": report.before, " after": report.after}
    heads = [f"{rate}{when}" for when in audits for rate in ("clean", "robust")]
    tables = []
    for at, last in enumerate([*audits.values()][-1].groups):
        found = [[last.column, *heads]]
        for row in worst_first(last.groups):
            cells = (with_bounds(rate) for audit in audits.values() for rate in audit.groups[at].groups[row].rates)
            found.append([last.groups[row].name, *cells])
        tables.append("\n".join([group_verdict(last), *_aligned(found)]))
    return tables


def _audit_rows(report: AuditReport) -> list[list[str]]:
    table = [["class", "clean", *(attack.name for attack in report.attacks), "robust"]]
    for c in worst_first(report.classes):
        row = report.classes[c]
        attacked = (percent(rate.rate) for rate in row.after_attack)
        table.append([row.name, with_bounds(row.clean), *attacked, with_bounds(row.robust)])
    after = (percent(rate) for rate in after_attacks(report))
    table.append(["mean", with_bounds(report.clean.mean), *after, with_bounds(report.robust.mean)])
    return table


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


def row_line(stage: str, row: AttackRow | EpochRow) -> str:
    """The attack or epoch that was finished in that stage, in one line, while a computation runs."""
    if isinstance(row, AttackRow):
        return f"{stage}: {row.broken:,} of {row.tried:,} broken in {row.seconds:.1f} s"
    held_out = (
        f", held-out images {percent(row.held_out_mean)} robust, {percent(row.held_out_worst)} in the worst class"
        if row.held_out_mean is not None and row.held_out_worst is not None
        else ""
    )
    cut = "" if row.share == 1 else f", {percent(row.share)} of it"
    return f"epoch {row.epoch}{cut}: loss {row.loss:.3f}{held_out}, {row.seconds:.1f} s"
