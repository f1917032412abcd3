"""Count images per class or group, and compute the rates and intervals that follow from the counts."""

from typing import Literal

import numpy as np

from faal_core.results import intervals
from faal_core.results.confidence_sequence import sequence_bounds
from faal_core.results.documents import ClassRow, Confusion, GroupTable, Interval, Rate, Spread
from faal_core.results.image_outcomes import Evaluation, Flags, Rows

_ROUNDING = 1e-12  # largest difference of a gap that is summed over the classes in another order


class ClassTable:
    """Counts the images of one evaluation per class, or per group where `members` is given.

    Args:
        evaluation: one row per image.
        class_names: one name per class, or per group; classes without images are left out of rows and statistics.
        attacks: number of attacks that were run.
        confidence: confidence of the intervals of one column together.
        members: class or group of each image; its label when absent.
        available: numbers of images of each class in the evaluation that a sequential audit could have used. The numbers that it
            used depend on the rates, so its intervals hold at every number, and its mean weighs the classes by `available`.
    """

    def __init__(
        self,
        evaluation: Evaluation,
        class_names: tuple[str, ...],
        attacks: int,
        confidence: float,
        members: Rows | None = None,
        *,
        available: intervals.Counts | None = None,
    ) -> None:
        self._evaluation, self._all_names, self._confidence = evaluation, class_names, confidence
        self._members = evaluation.labels if members is None else members
        self._present = np.flatnonzero(np.bincount(self._members, minlength=len(class_names)))
        self._available = available
        self._names = tuple(class_names[c] for c in self._present)
        self.images = self._count(np.ones(len(evaluation.labels), dtype=bool))
        self.clean = self._count(evaluation.correct)
        self.after_attack = [self._count(evaluation.correct_after(k)) for k in range(attacks)]
        self.robust = self._count(evaluation.robust)
        self.certified = None if evaluation.certified is None else self._count(evaluation.certified)

    def _count(self, flags: Flags) -> intervals.Counts:
        return np.bincount(self._members[flags], minlength=len(self._all_names))[self._present]

    def _find_bounds(self, correct: intervals.Counts) -> tuple[intervals.Vector, intervals.Vector]:
        bounds = intervals.clopper_pearson if self._available is None else sequence_bounds
        return intervals.simultaneous_bounds(correct, self.images, self._confidence, bounds)

    def _build_rates(self, correct: intervals.Counts) -> list[Rate]:
        low, high = self._find_bounds(correct)
        return [
            Rate(count=int(count), images=int(n), rate=count / n, low=lower, high=upper)
            for count, n, lower, upper in zip(correct, self.images, low, high, strict=True)
        ]

    def build_rows(self) -> tuple[ClassRow, ...]:
        """Return one row per class that has images, in label order; the intervals of a column hold for all classes together."""
        clean, robust = self._build_rates(self.clean), self._build_rates(self.robust)
        after = [self._build_rates(count) for count in self.after_attack]
        certified = None if self.certified is None else self._build_rates(self.certified)
        return tuple(
            ClassRow(
                name=name,
                images=int(self.images[c]),
                clean=clean[c],
                after_attack=tuple(column[c] for column in after),
                robust=robust[c],
                certified=None if certified is None else certified[c],
            )
            for c, name in enumerate(self._names)
        )

    def build_spread(self, correct: intervals.Counts) -> Spread:
        """Return mean, worst class, gap and verdict of one column of counts (`clean` or `robust`)."""
        rates = correct / self.images
        ascending = np.sort(rates)
        low, high = self._find_bounds(correct)
        worst_low, worst_high = intervals.worst_bounds(low, high)
        gap_low, gap_high = intervals.gap_bounds(low, high)
        gap = float(rates.mean() - rates.min())
        is_sequential = self._available is not None
        by_chance = None if is_sequential else intervals.gap_by_chance(correct, self.images, self._confidence)
        is_unequal = gap_low > 0 if by_chance is None else gap > by_chance + _ROUNDING
        return Spread(
            mean=self._build_mean(correct),
            worst_class=self._names[int(rates.argmin())],
            worst=Interval(value=float(rates.min()), low=worst_low, high=worst_high),
            gap=Interval(value=gap, low=gap_low, high=gap_high),
            gap_by_chance=by_chance,
            tail_10=float(ascending[: -(-len(rates) // 10)].mean()),
            tail_20=float(ascending[: -(-len(rates) // 5)].mean()),
            deviation=float(rates.std()),
            verdict="unequal" if is_unequal else self._judge_small_gap(correct),
        )

    def _judge_small_gap(self, correct: intervals.Counts) -> Literal["no-evidence", "at-chance"]:
        """Return the verdict where the gap may be chance: whether the mean is significantly above that of a constant answer.

        A classifier that gives every image the same class has a mean class rate of 1 / classes, under any attack. Classes
        are those that occur as a label or as an answer.
        """
        rows = self._evaluation
        classes = len(np.unique(np.concatenate([rows.labels, rows.clean, rows.attacked])))
        at_chance = correct.sum() == 0 or self._build_mean(correct).low <= 1 / classes
        return "at-chance" if at_chance else "no-evidence"

    def _build_mean(self, correct: intervals.Counts) -> Rate:
        total, images = correct.sum(), self.images.sum()
        if self._available is None:
            low, high = map(float, intervals.clopper_pearson(total, images, self._confidence))
            rate = total / images
        else:  # the fraction of a class in the audited images depends on its rate
            low, high = intervals.mean_bounds(*self._find_bounds(correct), self._available)
            rate = np.average(correct / self.images, weights=self._available)
        return Rate(count=int(total), images=int(images), rate=float(rate), low=low, high=high)

    def count_confusions(self) -> tuple[Confusion, ...]:
        """Return which class the images that are not robust were taken for, most frequent first, then in label order."""
        rows = self._evaluation
        wrong = ~rows.robust
        pairs, counts = np.unique(np.stack([rows.labels[wrong], rows.attacked[wrong]]), axis=1, return_counts=True)
        return tuple(
            Confusion(true=self._all_names[pairs[0, i]], predicted=self._all_names[pairs[1, i]], count=int(counts[i]))
            for i in np.argsort(-counts, kind="stable")
        )


def build_group_table(column: str, table: ClassTable) -> GroupTable:
    """Return the report's table of one column of groups."""
    return GroupTable(
        column=column,
        groups=table.build_rows(),
        clean=table.build_spread(table.clean),
        robust=table.build_spread(table.robust),
    )
