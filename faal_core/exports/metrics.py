"""List the numbers of a report as metrics: each has a path of names, which a target joins in its own way."""

from collections.abc import Iterator, Mapping, Sequence

from faal_core.exports.metric_keys import KeyMaker
from faal_core.results.documents import AuditReport, ClassRow, Interval, Rate, Spread
from faal_core.results.finetune_documents import Comparison, FinetuneReport

Metrics = dict[tuple[str, ...], float]
KINDS = ("clean", "robust")


def audit_metrics(report: AuditReport, make_keys: KeyMaker) -> Metrics:
    """Return an audit's radius, and its clean and robust accuracies with their bounds.

    `("robust", "mean")` is an accuracy. `("robust_low", "mean")` and `("robust_high", "mean")` are the bounds of its interval.
    """
    metrics: Metrics = {("epsilon",): report.spec.threat.epsilon}
    for kind in KINDS:
        spread: Spread = getattr(report, kind)
        metrics |= _spread_metrics(kind, spread)
        for key, row in zip(class_keys(report, make_keys), report.classes, strict=True):
            metrics |= _with_bounds(kind, ("class", key), getattr(row, kind))
    return metrics | _group_metrics(report, make_keys)


def finetune_metrics(report: FinetuneReport, make_keys: KeyMaker) -> Metrics:
    """Return the metrics of the audit after a fine-tuning, those before under `before`, and the changes.

    The metrics of the audit after have the names that an audit's have, so that the tuned classifier compares with audited ones.
    """
    before = audit_metrics(report.before, make_keys)
    metrics = audit_metrics(report.after, make_keys)
    metrics |= {("before", *path): value for path, value in before.items() if path != ("epsilon",)}
    keys = class_keys(report.after, make_keys)
    for kind in KINDS:
        comparison: Comparison = getattr(report, kind)
        metrics |= _with_bounds("change", (kind, "mean"), comparison.mean_change)
        metrics |= _with_bounds("change", (kind, "worst"), comparison.worst_change)
        for key, row in zip(keys, comparison.classes, strict=True):
            metrics["change", kind, "class", key] = row.after - row.before
            metrics["p_adjusted", kind, "class", key] = row.p_adjusted
    return metrics


def epoch_metrics(report: FinetuneReport) -> Iterator[tuple[int, Metrics]]:
    """Yield each epoch of the training with its loss, its learning rate and the accuracies on the validation images."""
    for row in report.epochs:
        numbers = {
            "loss": row.loss,
            "learning_rate": row.learning_rate,
            "validation_clean": row.validation_clean,
            "validation_robust": row.validation_robust,
            "validation_robust_worst": row.validation_robust_worst,
        }
        yield row.epoch, {("training", name): value for name, value in numbers.items() if value is not None}


def class_keys(report: AuditReport, make_keys: KeyMaker) -> list[str]:
    """Return the key of each class that has images. It depends on all classes of the data set, not on those with images."""
    return _select_keys(report.dataset.class_names, report.classes, make_keys)


def _select_keys(names: Sequence[str], rows: Sequence[ClassRow], make_keys: KeyMaker) -> list[str]:
    all_names = list(dict.fromkeys([*names, *(row.name for row in rows)]))
    keys: Mapping[str, str] = dict(zip(all_names, make_keys(all_names), strict=True))
    return [keys[row.name] for row in rows]


def _spread_metrics(kind: str, spread: Spread) -> Metrics:
    return (
        _with_bounds(kind, ("mean",), spread.mean)
        | _with_bounds(kind, ("worst",), spread.worst)
        | _with_bounds(kind, ("gap",), spread.gap)
        | {(kind, name): getattr(spread, name) for name in ("tail_10", "tail_20", "deviation")}
        | ({} if spread.gap_by_chance is None else {(kind, "gap_by_chance"): spread.gap_by_chance})
    )


def _group_metrics(report: AuditReport, make_keys: KeyMaker) -> Metrics:
    """Return the accuracies of each group, and those of the worst group of each column."""
    metrics: Metrics = {}
    rows = [(table.column, row) for table in report.groups for row in table.groups]
    keys = make_keys([f"{column} {row.name}" for column, row in rows])
    columns = make_keys([table.column for table in report.groups])
    for kind in KINDS:
        for key, (_, row) in zip(keys, rows, strict=True):
            metrics |= _with_bounds(kind, ("group", key), getattr(row, kind))
        for key, table in zip(columns, report.groups, strict=True):
            spread: Spread = getattr(table, kind)
            metrics |= _with_bounds(kind, ("worst_group", key), spread.worst)
            metrics |= _with_bounds(kind, ("group_gap", key), spread.gap)
    return metrics


def _with_bounds(kind: str, path: tuple[str, ...], estimate: Rate | Interval) -> Metrics:
    value = estimate.rate if isinstance(estimate, Rate) else estimate.value
    return {(kind, *path): value, (f"{kind}_low", *path): estimate.low, (f"{kind}_high", *path): estimate.high}
