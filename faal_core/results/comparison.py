"""Compare two evaluations: changes of each class, of the mean and of the worst class, image by image or by counts."""

from collections.abc import Sequence
from typing import Literal

import numpy as np

from faal_core.results import intervals
from faal_core.results.documents import Interval, Rate
from faal_core.results.finetune_documents import ClassChange, Comparison
from faal_core.results.image_outcomes import Flags, Rows

_Counts = tuple[intervals.Counts, intervals.Counts]


def compare(labels: Rows, before: Flags, after: Flags, class_names: tuple[str, ...], confidence: float) -> Comparison:
    """Return the changes between two evaluations of the same images, class by class and on average.

    Args:
        labels: true class of each image; classes without images are left out.
        before, after: whether each image is classified correctly; the same images in the same order.
        confidence: confidence of the bounds; 1 − confidence is the level of the verdicts, over all classes together.
    """
    present = np.flatnonzero(np.bincount(labels, minlength=len(class_names)))
    class_names = tuple(class_names[c] for c in present)

    def count(flags: Flags) -> intervals.Counts:
        return np.bincount(labels[flags], minlength=int(present[-1]) + 1)[present]

    images, right_before, right_after = count(np.ones(len(labels), dtype=bool)), count(before), count(after)
    gained, lost = count(~before & after), count(before & ~after)
    p_values = intervals.mcnemar(gained, lost)
    adjusted = intervals.holm(p_values)
    changes = tuple(
        ClassChange(
            name=name,
            before=right_before[c] / images[c],
            after=right_after[c] / images[c],
            gained=int(gained[c]),
            lost=int(lost[c]),
            p_value=p_values[c],
            p_adjusted=adjusted[c],
            verdict=judge(adjusted[c], gained[c] - lost[c], confidence),
        )
        for c, name in enumerate(class_names)
    )
    low, high = intervals.mean_change_bounds(gained, lost, images, confidence)
    mean_change = Interval(value=float((right_after.sum() - right_before.sum()) / images.sum()), low=low, high=high)
    return Comparison(
        classes=changes,
        mean_change=mean_change,
        worst_class_before=class_names[int((right_before / images).argmin())],
        worst_class_after=class_names[int((right_after / images).argmin())],
        worst_change=_worst_change((right_before, images), (right_after, images), confidence),
    )


def compare_samples(
    names: Sequence[str], rates: Sequence[tuple[Rate, Rate]], confidence: float
) -> tuple[Comparison, float]:
    """Return the changes between two evaluations of different images, and the p-value of the mean's change.

    Args:
        names: names of the classes.
        rates: the rates of each class before and after.
        confidence: as in `compare`.
    """
    counts = np.array([(before.count, before.images, after.count, after.images) for before, after in rates])
    right, images, right_after, images_after = counts.T
    p_values = intervals.fisher(counts)
    adjusted = intervals.holm(p_values)
    changes = tuple(
        ClassChange(
            name=name,
            before=before.rate,
            after=after.rate,
            gained=None,
            lost=None,
            p_value=p_values[c],
            p_adjusted=adjusted[c],
            verdict=judge(adjusted[c], after.rate - before.rate, confidence),
        )
        for c, (name, (before, after)) in enumerate(zip(names, rates, strict=True))
    )
    mean = intervals.stratified_change(counts, confidence)
    comparison = Comparison(
        classes=changes,
        mean_change=Interval(value=mean.value, low=mean.low, high=mean.high),
        worst_class_before=names[int((right / images).argmin())],
        worst_class_after=names[int((right_after / images_after).argmin())],
        worst_change=_worst_change((right, images), (right_after, images_after), confidence),
    )
    return comparison, mean.p_value


def judge(p_adjusted: float, change: float, confidence: float) -> Literal["better", "worse", "unclear"]:
    """Return the verdict on a change with that p-value."""
    if p_adjusted > 1 - confidence:
        return "unclear"
    return "better" if change > 0 else "worse"


def _worst_change(before: _Counts, after: _Counts, confidence: float) -> Interval:
    """Return the smallest rate after minus the smallest rate before; bounds from both families, each at half the error.

    Args:
        before, after: for each class the correctly classified images, and all images.
    """
    stricter = (1 + confidence) / 2
    before_low, before_high = intervals.worst_bounds(*intervals.simultaneous_bounds(*before, stricter))
    after_low, after_high = intervals.worst_bounds(*intervals.simultaneous_bounds(*after, stricter))
    value = float((after[0] / after[1]).min() - (before[0] / before[1]).min())
    return Interval(value=value, low=after_low - before_high, high=after_high - before_low)
