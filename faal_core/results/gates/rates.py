"""Judge rates against limits by their intervals: the worst class, means, the gap, single classes and groups."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np

from faal_core.errors import InvalidSpec
from faal_core.results import intervals
from faal_core.results.confidence_sequence import sequence_bounds
from faal_core.results.documents import AuditReport, ClassRow, Rate
from faal_core.results.gates import images_to_decide
from faal_core.results.gates.documents import RequirementResult
from faal_core.results.gates.sentences import Measurement, explain_measurement
from faal_core.results.trust import doubts
from faal_core.specs import Policy
from faal_core.specs.field_errors import shorten

_LONGEST = 60  # characters of a name that a message repeats

Accuracy = Literal["clean", "robust"]


class RateColumn(NamedTuple):
    """Holds one rate per class or group, with bounds that hold for all of them together.

    Args:
        bounds: computes bounds of a single rate.
    """

    names: list[str]
    images: intervals.Counts
    rates: intervals.Vector
    low: intervals.Vector
    high: intervals.Vector
    bounds: intervals.Bounds


def judge_rates(policy: Policy, report: AuditReport, confidence: float) -> Iterator[RequirementResult]:
    """Yield the result of each requirement on rates.

    Args:
        confidence: confidence of the intervals of one kind together.
    Raises: InvalidSpec for a class or a column of groups that the report does not have.
    """
    accepted = policy.accept_warnings
    robust_doubts, clean_doubts = doubts(report, accepted), doubts(report, accepted, clean=True)
    classes = _build_column(report.classes, "robust", confidence, is_sequential=report.sequential is not None)
    if policy.min_worst is not None:
        yield _judge_smallest("min_worst", None, "class", policy.min_worst, classes, confidence, robust_doubts)
    if policy.min_robust is not None:
        yield _judge_mean("robust", policy.min_robust, report, confidence, robust_doubts)
    if policy.min_clean is not None:
        yield _judge_mean("clean", policy.min_clean, report, confidence, clean_doubts)
    if policy.max_gap is not None:
        yield _judge_gap(policy.max_gap, classes, confidence, robust_doubts)
    _check_names("min_class", policy.min_class, classes.names)
    for name, limit in policy.min_class.items():
        yield _judge_class(name, limit, classes, confidence, robust_doubts)
    tables = {table.column: table.groups for table in report.groups}
    _check_names("min_group", policy.min_group, list(tables))
    for column, limit in policy.min_group.items():
        groups = _build_column(tables[column], "robust", confidence)
        yield _judge_smallest("min_group", column, "group", limit, groups, confidence, robust_doubts)


def _build_column(
    rows: Sequence[ClassRow], accuracy: Accuracy, confidence: float, *, is_sequential: bool = False
) -> RateColumn:
    rates: list[Rate] = [getattr(row, accuracy) for row in rows]
    correct, images = np.array([rate.count for rate in rates]), np.array([rate.images for rate in rates])
    bounds = sequence_bounds if is_sequential else intervals.clopper_pearson
    low, high = intervals.simultaneous_bounds(correct, images, confidence, bounds)
    return RateColumn([row.name for row in rows], images, correct / images, low, high, bounds)


def _check_names(field: str, limits: Mapping[str, float], names: Sequence[str]) -> None:
    """Check that the report has each named class or column once. Raises: InvalidSpec."""
    for name in limits:
        if name not in names:
            known = shorten(", ".join(map(repr, names)), 10 * _LONGEST) or "none"
            raise InvalidSpec(f"{field}: the report has no {name[:_LONGEST]!r}; it has {known}.")
        if names.count(name) > 1:
            raise InvalidSpec(f"{field}: the report has {names.count(name)} classes with the name {name[:_LONGEST]!r}.")


def _judge_smallest(
    name: str,
    subject: str | None,
    kind: str,
    limit: float,
    column: RateColumn,
    confidence: float,
    reasons: tuple[str, ...],
) -> RequirementResult:
    within = f" of “{subject}”" if subject else ""
    measurement = Measurement(
        f"The robust accuracy of the worst {kind}{within}, “{column.names[int(column.rates.argmin())]}”,",
        limit,
        float(column.rates.min()),
        *intervals.worst_bounds(column.low, column.high),
        is_largest=False,
        unit=f"images per {kind}",
    )
    return _judge(
        name,
        subject,
        measurement,
        reasons,
        lambda: images_to_decide.images_for_smallest(
            column.rates,
            limit,
            confidence,
            audited=int(column.images[column.low < limit].max()),
            bounds=column.bounds,
        ),
    )


def _judge_mean(
    accuracy: Accuracy, limit: float, report: AuditReport, confidence: float, reasons: tuple[str, ...]
) -> RequirementResult:
    """Return the result for the mean of one accuracy.

    In a sequential audit, the share of a class in the audited images depends on its rate. So the mean has the shares of the
    images that were available, and its bounds follow from those of the classes.
    """
    mean: Rate = getattr(report, accuracy).mean
    rate, unit = mean.rate, "images in total"
    if report.sequential is None:
        low, high = map(float, intervals.clopper_pearson(np.array(mean.count), np.array(mean.images), confidence))
    else:
        column = _build_column(report.classes, accuracy, confidence, is_sequential=True)
        weights = np.array([one.available for one in report.sequential.classes])
        low, high = intervals.mean_bounds(column.low, column.high, weights)
        unit = "images in an audit that is not sequential"
    measurement = Measurement(
        f"The {accuracy} accuracy over all images", limit, rate, low, high, is_largest=False, unit=unit
    )
    return _judge(
        f"min_{accuracy}",
        None,
        measurement,
        reasons,
        lambda: images_to_decide.images_for_one(rate, limit, confidence, audited=mean.images),
    )


def _judge_gap(limit: float, column: RateColumn, confidence: float, reasons: tuple[str, ...]) -> RequirementResult:
    measurement = Measurement(
        "The gap between the mean of the classes' robust accuracies and the smallest one",
        limit,
        float(column.rates.mean() - column.rates.min()),
        *intervals.gap_bounds(column.low, column.high),
        is_largest=True,
        unit="images per class",
    )
    return _judge(
        "max_gap",
        None,
        measurement,
        reasons,
        lambda: images_to_decide.images_for_gap(
            column.rates, limit, confidence, audited=int(column.images.max()), bounds=column.bounds
        ),
    )


def _judge_class(
    name: str, limit: float, column: RateColumn, confidence: float, reasons: tuple[str, ...]
) -> RequirementResult:
    place = column.names.index(name)
    rate = float(column.rates[place])
    measurement = Measurement(
        f"The robust accuracy of the class “{name}”",
        limit,
        rate,
        float(column.low[place]),
        float(column.high[place]),
        is_largest=False,
        unit="images per class",
    )
    alone, audited = 1 - (1 - confidence) / len(column.names), int(column.images[place])
    return _judge(
        "min_class",
        name,
        measurement,
        reasons,
        lambda: images_to_decide.images_for_one(rate, limit, alone, audited=audited, bounds=column.bounds),
    )


def _judge(
    name: str,
    subject: str | None,
    measurement: Measurement,
    reasons: tuple[str, ...],
    images: Callable[[], int | None],
) -> RequirementResult:
    """Return the result of one requirement; a limit that only doubtful rates meet is undecided.

    Where rates may be too high, a gap between them may be too large or too small, so it is undecided in any case.
    """
    status = measurement.status
    needed = images() if status == "undecided" else None
    return RequirementResult(
        name=name,
        subject=subject,
        limit=measurement.limit,
        value=measurement.value,
        low=measurement.low,
        high=measurement.high,
        status="undecided" if reasons and (status == "pass" or measurement.is_largest) else status,
        sentence=explain_measurement(measurement, reasons, needed),
        images_to_decide=needed,
    )
