"""From rows of images to rows of classes or groups: counts first, rates and intervals from them, before and after compared."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from faal_core import intervals
from faal_core.reports.documents import ClassRow, Confusion, GroupTable, Interval, Rate, Spread
from faal_core.reports.finetune_documents import Comparison, PairedChange

Rows = NDArray[np.int64]
Flags = NDArray[np.bool_]

UNBROKEN = -1  # in `broken_by`: every attack failed
_ROUNDING = 1e-12  # the same gap summed over the classes in another order


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What was seen of each image: one row each, the only thing statistics are computed from.

    Args:
        labels, clean: true and predicted class of the unperturbed image.
        attacked: predicted class of the adversarial image that broke it; `clean` where none did.
        broken_by: number of the attack that broke it; −1 where none did or where it was wrong already.
        distance: norm of the perturbation that broke it, 0 elsewhere.
        clean_margin, margin: probability of the label minus that of the likeliest other class, in [−1, 1]: of the image as
            it is, and the least that was seen.
        sha256: of the adversarial image that broke it; empty where none did.
    """

    labels: Rows
    clean: Rows
    attacked: Rows
    broken_by: Rows
    distance: NDArray[np.float64]
    clean_margin: NDArray[np.float64]
    margin: NDArray[np.float64]
    sha256: tuple[str, ...]

    @property
    def correct(self) -> Flags:
        """Which images are right without an attack."""
        return self.clean == self.labels

    def correct_after(self, attack: int) -> Flags:
        """Which images are right clean and after attacks 0..attack."""
        return self.correct & ((self.broken_by == UNBROKEN) | (self.broken_by > attack))

    @property
    def robust(self) -> Flags:
        """Which images are right clean and after every attack."""
        return self.correct & (self.broken_by == UNBROKEN)


class ClassTable:
    """Counts per class of one evaluation, and what follows from them; or per group, where `members` are given.

    Args:
        evaluation: its rows.
        class_names: one per class; those without images are in no row, and no statistic counts them.
        attacks: how many attacks were run.
        confidence: of the intervals of one column together.
        members: which class or group each image is counted in; its label's when absent.
    """

    def __init__(
        self,
        evaluation: Evaluation,
        class_names: tuple[str, ...],
        attacks: int,
        confidence: float,
        members: Rows | None = None,
    ) -> None:
        self._evaluation, self._all_names, self._confidence = evaluation, class_names, confidence
        self._members = evaluation.labels if members is None else members
        self._present = np.flatnonzero(np.bincount(self._members, minlength=len(class_names)))
        self._names = tuple(class_names[c] for c in self._present)
        self.images = self._count(np.ones(len(evaluation.labels), dtype=bool))
        self.clean = self._count(evaluation.correct)
        self.after_attack = [self._count(evaluation.correct_after(k)) for k in range(attacks)]
        self.robust = self._count(evaluation.robust)

    def _count(self, flags: Flags) -> intervals.Counts:
        return np.bincount(self._members[flags], minlength=len(self._all_names))[self._present]

    def _rates(self, correct: intervals.Counts) -> list[Rate]:
        low, high = intervals.simultaneous(correct, self.images, self._confidence)
        return [
            Rate(count=int(count), images=int(n), rate=count / n, low=below, high=above)
            for count, n, below, above in zip(correct, self.images, low, high, strict=True)
        ]

    def rows(self) -> tuple[ClassRow, ...]:
        """One row a class that has images, in label order; the intervals of a column hold for all classes together."""
        clean, robust = self._rates(self.clean), self._rates(self.robust)
        after = [self._rates(count) for count in self.after_attack]
        return tuple(
            ClassRow(
                name=name,
                images=int(self.images[c]),
                clean=clean[c],
                after_attack=tuple(column[c] for column in after),
                robust=robust[c],
            )
            for c, name in enumerate(self._names)
        )

    def spread(self, correct: intervals.Counts) -> Spread:
        """Mean, worst class, gap and verdict of one column of counts (`clean` or `robust`)."""
        rates = correct / self.images
        ascending = np.sort(rates)
        low, high = intervals.simultaneous(correct, self.images, self._confidence)
        worst_low, worst_high = intervals.worst_bounds(low, high)
        gap_low, gap_high = intervals.gap_bounds(low, high)
        gap = float(rates.mean() - rates.min())
        by_chance = intervals.gap_by_chance(correct, self.images, self._confidence)
        return Spread(
            mean=self._mean(correct),
            worst_class=self._names[int(rates.argmin())],
            worst=Interval(value=float(rates.min()), low=worst_low, high=worst_high),
            gap=Interval(value=gap, low=gap_low, high=gap_high),
            gap_by_chance=by_chance,
            tail_10=float(ascending[: -(-len(rates) // 10)].mean()),
            tail_20=float(ascending[: -(-len(rates) // 5)].mean()),
            deviation=float(rates.std()),
            verdict="unequal" if gap > by_chance + _ROUNDING else self._without_gap(correct),
        )

    def _without_gap(self, correct: intervals.Counts) -> Literal["no-evidence", "at-chance"]:
        """Return the verdict where no gap shows: whether the mean is surely above that of a constant answer.

        A classifier that gives every image the same class has a mean class rate of 1 / classes, under any attack. Classes are
        those that occur as a label or as an answer.
        """
        rows = self._evaluation
        classes = len(np.unique(np.concatenate([rows.labels, rows.clean, rows.attacked])))
        at_chance = correct.sum() == 0 or self._mean(correct).low <= 1 / classes
        return "at-chance" if at_chance else "no-evidence"

    def _mean(self, correct: intervals.Counts) -> Rate:
        total, images = correct.sum(), self.images.sum()
        low, high = intervals.clopper_pearson(total, images, self._confidence)
        return Rate(count=int(total), images=int(images), rate=total / images, low=float(low), high=float(high))

    def confusion(self) -> tuple[Confusion, ...]:
        """Which class the images that are not robust were taken for, most frequent first, then in label order."""
        rows = self._evaluation
        wrong = ~rows.robust
        pairs, counts = np.unique(np.stack([rows.labels[wrong], rows.attacked[wrong]]), axis=1, return_counts=True)
        return tuple(
            Confusion(true=self._all_names[pairs[0, i]], predicted=self._all_names[pairs[1, i]], count=int(counts[i]))
            for i in np.argsort(-counts, kind="stable")
        )


def group_table(column: str, table: ClassTable) -> GroupTable:
    """The report's table of a column of groups, from their counts."""
    return GroupTable(
        column=column, groups=table.rows(), clean=table.spread(table.clean), robust=table.spread(table.robust)
    )


def compare(labels: Rows, before: Flags, after: Flags, class_names: tuple[str, ...], confidence: float) -> Comparison:
    """What changed on the same images, class by class and on average.

    Args:
        labels: true class of each image; classes without images are left out.
        before, after: whether each image is right; the same images in the same order.
        confidence: of the bounds; 1 − confidence is also the level of the verdicts, over all classes together.
    """
    present = np.flatnonzero(np.bincount(labels, minlength=len(class_names)))
    class_names = tuple(class_names[c] for c in present)

    def count(flags: Flags) -> intervals.Counts:
        return np.bincount(labels[flags], minlength=int(present[-1]) + 1)[present]

    images, was, became = count(np.ones(len(labels), dtype=bool)), count(before), count(after)
    gained, lost = count(~before & after), count(before & ~after)
    p_values = intervals.mcnemar(gained, lost)
    adjusted = intervals.holm(p_values)
    changes = tuple(
        PairedChange(
            name=name,
            before=was[c] / images[c],
            after=became[c] / images[c],
            gained=int(gained[c]),
            lost=int(lost[c]),
            p_value=p_values[c],
            p_adjusted=adjusted[c],
            verdict="unclear" if adjusted[c] > 1 - confidence else "better" if gained[c] > lost[c] else "worse",
        )
        for c, name in enumerate(class_names)
    )
    low, high = intervals.mean_change_bounds(gained, lost, images, confidence)
    mean_change = Interval(value=float((became.sum() - was.sum()) / images.sum()), low=low, high=high)
    return Comparison(
        classes=changes,
        mean_change=mean_change,
        worst_class_before=class_names[int((was / images).argmin())],
        worst_class_after=class_names[int((became / images).argmin())],
        worst_change=_worst_change(was, became, images, confidence),
    )


def _worst_change(
    was: intervals.Counts, became: intervals.Counts, images: intervals.Counts, confidence: float
) -> Interval:
    """Smallest rate after minus smallest rate before; bounds from both families of intervals, each at half the error."""
    half = (1 + confidence) / 2
    before_low, before_high = intervals.worst_bounds(*intervals.simultaneous(was, images, half))
    after_low, after_high = intervals.worst_bounds(*intervals.simultaneous(became, images, half))
    value = float((became / images).min() - (was / images).min())
    return Interval(value=value, low=after_low - before_high, high=after_high - before_low)
