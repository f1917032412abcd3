"""Compare two evaluations of the same images: paired changes of each class, of the mean and of the worst class."""

import numpy as np

from faal_core.results import intervals
from faal_core.results.documents import Interval
from faal_core.results.finetune_documents import Comparison, PairedChange
from faal_core.results.image_outcomes import Flags, Rows


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
        PairedChange(
            name=name,
            before=right_before[c] / images[c],
            after=right_after[c] / images[c],
            gained=int(gained[c]),
            lost=int(lost[c]),
            p_value=p_values[c],
            p_adjusted=adjusted[c],
            verdict="unclear" if adjusted[c] > 1 - confidence else "better" if gained[c] > lost[c] else "worse",
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
        worst_change=_worst_change(right_before, right_after, images, confidence),
    )


def _worst_change(
    right_before: intervals.Counts, right_after: intervals.Counts, images: intervals.Counts, confidence: float
) -> Interval:
    """Return the smallest rate after minus the smallest rate before; bounds from both families, each at half the error."""
    stricter = (1 + confidence) / 2
    before_low, before_high = intervals.worst_bounds(*intervals.simultaneous_bounds(right_before, images, stricter))
    after_low, after_high = intervals.worst_bounds(*intervals.simultaneous_bounds(right_after, images, stricter))
    value = float((right_after / images).min() - (right_before / images).min())
    return Interval(value=value, low=after_low - before_high, high=after_high - before_low)
