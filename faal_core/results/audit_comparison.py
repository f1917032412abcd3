"""Compare audits from their reports and stored outcomes; no model runs."""

from collections.abc import Collection, Sequence
from datetime import UTC, datetime
from typing import NamedTuple

import numpy as np

from faal_core.errors import InvalidSpec
from faal_core.results import intervals
from faal_core.results.comparability import require_comparable
from faal_core.results.comparison import compare, compare_samples, judge
from faal_core.results.comparison_documents import ComparisonReport, GroupComparison, MeanTest, ModelTable
from faal_core.results.documents import PRODUCT, AuditReport
from faal_core.results.finetune_documents import Comparison
from faal_core.results.outcomes import Outcomes
from faal_core.results.reading import StoredAudit

_LISTED_CLASSES = 10  # most names in a sentence


class _Pair(NamedTuple):
    """The clean and the robust side of a comparison, with the p-value of each mean."""

    clean: Comparison
    robust: Comparison
    mean_p_values: tuple[float, float]


def compare_audits(before: StoredAudit, after: StoredAudit) -> ComparisonReport:
    """Return the changes from the first audit to the second: of each class, each group, the means and the worst class.

    Audits of the same images are compared image by image if both have their outcomes; otherwise by their counts.
    Raises: InvalidSpec if norm, radius or attacks differ, an audit is incomplete, or no class is in both.
    """
    one, other = before.report, after.report
    require_comparable(one, other)
    confidence = max(one.spec.confidence, other.spec.confidence)
    reason = _find_obstacle(before, after)
    if reason is not None:
        reason += _name_omitted_classes(one, other)
    groups: tuple[GroupComparison, ...] = ()
    if reason is None and before.outcomes and after.outcomes:
        pair = _compare_images(before.outcomes, after.outcomes, one.dataset.class_names, confidence)
        groups = _compare_groups(before.outcomes, after.outcomes, confidence)
    else:
        pair = _compare_counts(one, other, confidence)
    clean, robust, clean_mean, robust_mean = _adjust_together(pair, confidence)
    return ComparisonReport(
        product=PRODUCT,
        created_at=datetime.now(UTC),
        pairing="two-sample" if reason else "paired",
        reason=reason,
        confidence=confidence,
        before=_without_gallery(one),
        after=_without_gallery(other),
        clean=clean,
        robust=robust,
        clean_mean=clean_mean,
        robust_mean=robust_mean,
        groups=groups,
    )


def tabulate_audits(audits: Sequence[AuditReport]) -> ModelTable:
    """Return the audits in order of the lower bound of their worst class, within each norm and radius.

    Raises: InvalidSpec without an audit.
    """
    if not audits:
        raise InvalidSpec("A table of models needs at least one audit.")

    def place(audited: AuditReport) -> tuple[str, float, bool, float]:
        return audited.spec.threat.norm, audited.spec.threat.epsilon, not audited.complete, -audited.robust.worst.low

    kinds: dict[str, Collection[object]] = {
        "images": {audited.dataset.sha256 for audited in audits},
        "attacks": {audited.attack_specs for audited in audits},
        "confidence levels": {str(audited.spec.confidence) for audited in audits},
        "norms": {audited.spec.threat.norm for audited in audits},
    }
    incomplete = [audited.classifier.name for audited in audits if not audited.complete]
    return ModelTable(
        product=PRODUCT,
        created_at=datetime.now(UTC),
        audits=tuple(map(_without_gallery, sorted(audits, key=place))),
        differences=(
            *(f"The audits have different {kind}." for kind, values in kinds.items() if len(values) > 1),
            *(f"The audit of {name} was stopped, so its robust rates may be too high." for name in incomplete),
            *(
                f"The audit of {audited.classifier.name} is sequential, so its number of images depends on its rates."
                for audited in audits
                if audited.sequential is not None
            ),
        ),
    )


def _find_obstacle(before: StoredAudit, after: StoredAudit) -> str | None:
    """Return why the audits cannot be compared image by image; None where they can."""
    one, other = before.report.dataset, after.report.dataset
    if one.sha256 != other.sha256:
        return f"The audits have different images, {one.name} and {other.name}."
    if before.outcomes and after.outcomes and not np.array_equal(before.outcomes.rows, after.outcomes.rows):
        return "The audits have different rows of the data set."
    if one.class_names != other.class_names:
        return "The audits give the same images different class names."
    missing = [audit.report.classifier.name for audit in (before, after) if audit.outcomes is None]
    if missing:
        return f"The outcomes of the images are not stored beside the report of {' and '.join(missing)}."
    return None


def _name_omitted_classes(one: AuditReport, other: AuditReport) -> str:
    """Return a sentence on the classes that only one of the audits has; empty where there are none."""
    names, other_names = ({row.name: None for row in report.classes} for report in (one, other))
    omitted = [name for name in names | other_names if name not in names or name not in other_names]
    listed = ", ".join(omitted[:_LISTED_CLASSES]) + (" …" if len(omitted) > _LISTED_CLASSES else "")
    return f" {len(omitted)} classes are left out, because only one audit has them: {listed}." if omitted else ""


def _compare_images(before: Outcomes, after: Outcomes, class_names: tuple[str, ...], confidence: float) -> _Pair:
    one, other = before.evaluation, after.evaluation
    return _Pair(
        compare(one.labels, one.correct, other.correct, class_names, confidence),
        compare(one.labels, one.robust, other.robust, class_names, confidence),
        (_mean_mcnemar(one.correct, other.correct), _mean_mcnemar(one.robust, other.robust)),
    )


def _mean_mcnemar(before: np.ndarray, after: np.ndarray) -> float:
    gained, lost = np.array([(~before & after).sum()]), np.array([(before & ~after).sum()])
    return float(intervals.mcnemar(gained, lost)[0])


def _compare_groups(before: Outcomes, after: Outcomes, confidence: float) -> tuple[GroupComparison, ...]:
    """Return the changes of the groups, for each column that both audits have with the same groups."""
    compared = []
    for column, values in before.groups.items():
        if after.groups.get(column) != values:
            continue
        names, members = np.unique(np.array(values, dtype=object), return_inverse=True)
        sides = (
            compare(
                members, getattr(before.evaluation, kind), getattr(after.evaluation, kind), tuple(names), confidence
            )
            for kind in ("correct", "robust")
        )
        clean, robust = sides
        raw = [row.p_value for side in (clean, robust) for row in side.classes]
        clean, robust = _judge_again((clean, robust), intervals.holm(np.array(raw)).tolist(), confidence)
        compared.append(GroupComparison(column=column, clean=clean, robust=robust))
    return tuple(compared)


def _compare_counts(before: AuditReport, after: AuditReport, confidence: float) -> _Pair:
    """Return the changes by the counts of the classes that both audits have."""
    rows = {row.name: row for row in after.classes}
    pairs = [(row, rows[row.name]) for row in before.classes if row.name in rows]
    names = [row.name for row, _ in pairs]
    clean, clean_p = compare_samples(names, [(row.clean, other.clean) for row, other in pairs], confidence)
    robust, robust_p = compare_samples(names, [(row.robust, other.robust) for row, other in pairs], confidence)
    return _Pair(clean, robust, (clean_p, robust_p))


def _adjust_together(pair: _Pair, confidence: float) -> tuple[Comparison, Comparison, MeanTest, MeanTest]:
    """Adjust the p-values of all classes and both means together, and judge by them."""
    raw = [row.p_value for side in (pair.clean, pair.robust) for row in side.classes]
    adjusted = intervals.holm(np.array([*raw, *pair.mean_p_values])).tolist()
    sides = _judge_again((pair.clean, pair.robust), adjusted[: len(raw)], confidence)
    means = [
        MeanTest(p_value=p, p_adjusted=p_adjusted, verdict=judge(p_adjusted, side.mean_change.value, confidence))
        for side, p, p_adjusted in zip(sides, pair.mean_p_values, adjusted[len(raw) :], strict=True)
    ]
    return sides[0], sides[1], means[0], means[1]


def _judge_again(
    sides: tuple[Comparison, Comparison], adjusted: Sequence[float], confidence: float
) -> tuple[Comparison, Comparison]:
    """Return the clean and the robust side with these adjusted p-values, in order, and the verdicts that follow from them."""
    waiting = iter(adjusted)

    def judge_side(side: Comparison) -> Comparison:
        rows = []
        for row in side.classes:
            p = next(waiting)
            verdict = judge(p, row.after - row.before, confidence)
            rows.append(row.model_copy(update={"p_adjusted": p, "verdict": verdict}))
        return side.model_copy(update={"classes": tuple(rows)})

    clean, robust = sides
    return judge_side(clean), judge_side(robust)


def _without_gallery(report: AuditReport) -> AuditReport:
    return report.model_copy(update={"gallery": ()})
