"""A report as text for a terminal: its warnings, its verdict, and its classes and groups as aligned tables."""

from faal_core.reports.audit_text import after_attacks, attack_key, attacked_cells, certified_mean, summarise_group
from faal_core.reports.comparison_text import tabulate_models
from faal_core.reports.finetune_text import audits, training_cut
from faal_core.reports.method_table_text import tabulate_methods
from faal_core.reports.text import verdict, warnings
from faal_core.reports.text_table import text_table
from faal_core.reports.wording import count, p_value, sanitise, with_bounds, worst_first
from faal_core.results.comparison_documents import ComparisonReport, ModelTable
from faal_core.results.documents import AttackRow, AuditReport
from faal_core.results.finetune_documents import EpochRow, FinetuneReport
from faal_core.results.method_table_documents import MethodTable
from faal_core.results.rate_text import percent, points
from faal_core.results.reading import Report

CONDITION = " where "  # in the name of an attack that is tried only on images that are close to being broken


def summary(report: Report) -> str:
    """Return the warnings, the verdict and the classes or models, in this order, for a terminal."""
    if isinstance(report, ModelTable | MethodTable):
        if isinstance(report, ModelTable):
            lines = text_table(tabulate_models(report), numeric=True)
        else:
            lines = text_table(tabulate_methods(report), numeric=True, name_width=None)
        return "\n".join([*map(sanitise, verdict(report)), "", *lines])
    alarms = [
        f"Warning{f' ({when})' if when else ''}: {warning.message} {warning.advice} ({warning.code}: {warning.evidence})"
        for when, warning in warnings(report)
    ]
    cut = [training_cut(report)] if isinstance(report, FinetuneReport) and training_cut(report) else []
    classes = class_table(report)
    if len(audits(report)) == 1:
        (audit,) = audits(report).values()
        classes += "".join(f"\nafter {line}" for line in attack_key(audit))
    sentences = [sanitise(line) for line in (*alarms, *cut)]  # names of classes and groups can turn the text around
    tables = [*_cell_tables(report), *group_tables(report)]
    return "\n\n".join([*sentences, "\n".join(map(sanitise, verdict(report))), classes, *tables])


def class_table(report: AuditReport | FinetuneReport | ComparisonReport, limit: int = 30) -> str:
    """Return the classes, lowest robust accuracy first, one a line; past `limit` a line gives the number of the others."""
    (first, *others) = audits(report).values()
    table = _audit_rows(first) if isinstance(report, AuditReport) or not others else _change_rows(report)
    hidden = len(table) - 2 - limit
    shorten = [*table[: 1 + limit], table[-1]] if hidden > 0 else table
    lines = text_table(shorten, numeric=True)
    if hidden > 0:
        lines.insert(-1, f"… {hidden} more classes, all more robust than these, are in the report")
    return "\n".join(lines)


def group_tables(report: AuditReport | FinetuneReport | ComparisonReport) -> list[str]:
    """Return a table for each column of groups, lowest robust accuracy first; of a fine-tuning, before and after."""
    reports = audits(report)
    heads = [f"{rate} {when}".rstrip() for when in reports for rate in ("clean", "robust")]
    tables = []
    for column, last in enumerate([*reports.values()][-1].groups):
        table = [[last.column, *heads]]
        for row in worst_first(last.groups):
            cells = (with_bounds(rate) for audit in reports.values() for rate in audit.groups[column].groups[row].rates)
            table.append([last.groups[row].name, *cells])
        tables.append("\n".join([sanitise(summarise_group(last)), *text_table(table, numeric=True)]))
    return tables


def _cell_tables(report: AuditReport | FinetuneReport | ComparisonReport, limit: int = 30) -> list[str]:
    """Return the table of the class × group cells of a fine-tuning that kept new weights, least robust afterwards first."""
    if not isinstance(report, FinetuneReport) or report.cells is None or report.outcome == "kept-original":
        return []
    head = [f"cell by {report.cells.column}", "before", "after", "points", "gained", "lost", "p (Holm)", "verdict"]
    changes = sorted(report.cells.robust.classes, key=lambda change: change.after)
    table = [[sanitise(head[0]), *head[1:]]]
    for change in changes[:limit]:
        rates = (percent(change.before), percent(change.after), points(change.after - change.before))
        tests = (count(change.gained), count(change.lost), p_value(change.p_adjusted), change.verdict)
        table.append([change.name, *rates, *tests])
    lines = text_table(table, numeric=True)
    if len(changes) > limit:
        lines.append(f"… {len(changes) - limit} more cells, all more robust than these, are in the report")
    return ["\n".join(lines)]


def _audit_rows(report: AuditReport) -> list[list[str]]:
    numbers = (f"after {number}" for number in range(1, len(report.attacks) + 1))
    certified = ["certified"] if report.classes[0].certified else []
    table = [["class", "clean", "robust", *certified, *numbers]]
    for c in worst_first(report.classes):
        row = report.classes[c]
        attacked = attacked_cells(report, row.after_attack)
        proven = [with_bounds(row.certified)] if row.certified else []
        table.append([row.name, with_bounds(row.clean), with_bounds(row.robust), *proven, *attacked])
    proven = [percent(certified_mean(report))] if certified else []
    mean = (with_bounds(spread.mean) for spread in (report.clean, report.robust))
    return [*table, ["mean", *mean, *proven, *after_attacks(report)]]


def _change_rows(report: FinetuneReport | ComparisonReport) -> list[list[str]]:
    before, after = ({row.name: row for row in audited.classes} for audited in (report.before, report.after))
    changes = report.robust.classes
    table = [["class", "robust before", "robust after", "points", "gained", "lost", "p (Holm)", "verdict"]]
    for c in worst_first([after[change.name] for change in changes]):
        change = changes[c]
        table.append(
            [
                change.name,
                with_bounds(before[change.name].robust),
                with_bounds(after[change.name].robust),
                points(change.after - change.before),
                count(change.gained),
                count(change.lost),
                p_value(change.p_adjusted),
                change.verdict,
            ]
        )
    means = [with_bounds(audit.robust.mean) for audit in (report.before, report.after)]
    table.append(["mean", *means, points(report.robust.mean_change.value), "", "", "", ""])
    return table


def _attack_outcome(row: AttackRow) -> str:
    """Return the number of images that the attack broke, or why it tried none: no image needed it, or the time was over."""
    if row.tried == 0:
        return "no image was close enough to need it" if CONDITION in row.name else "no image was left to try it on"
    if row.untried and not row.forward:
        return f"{row.untried:,} of {row.tried:,} not tried"
    unfinished = f", {row.untried:,} not finished" if row.untried else ""
    return f"{row.broken:,} of {row.tried:,} broken{unfinished} in {row.seconds:.1f} s"


def row_line(stage: str, row: AttackRow | EpochRow) -> str:
    """Return a line about the attack or epoch that has just finished in that stage, while a computation runs."""
    if isinstance(row, AttackRow):
        return f"{stage}: {_attack_outcome(row)}"
    validation = (
        f", validation images {percent(row.validation_robust)} robust, {percent(row.validation_robust_worst)} in the worst class"
        if row.validation_robust is not None and row.validation_robust_worst is not None
        else ""
    )
    cut = "" if row.fraction == 1 else f", {percent(row.fraction)} of it"
    return f"epoch {row.epoch}{cut}: loss {row.loss:.3f}{validation}, {row.seconds:.1f} s"
