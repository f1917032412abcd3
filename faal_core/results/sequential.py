"""Decide about limits after each block of images, so that a sequential audit audits no more images than its verdict needs.

The decisions follow from the outcomes of the images alone: an audit that resumes takes the same ones.
"""

from collections.abc import Iterator, Sequence

import numpy as np

from faal_core.errors import InvalidSpec
from faal_core.results.confidence_sequence import sequence_bounds
from faal_core.results.document import Status
from faal_core.results.image_outcomes import Flags, Rows
from faal_core.results.intervals import Counts, Vector, simultaneous_bounds
from faal_core.specs import SequentialLimits
from faal_core.specs.field_errors import shorten

BLOCK = 50
"""Images of each class in a block. Decisions come after blocks, so a class has on average half a block more than it needs."""


class Decisions:
    """Counts the audited images of each class, and decides about the limits of the classes.

    Args:
        labels: class of each image that the audit could use; classes without images have no part in it.
        class_names: one name per class.
        limits: limits of the audit.
        confidence: confidence of the intervals of all classes together.

    Raises: InvalidSpec for a limit of a class that has no images.
    """

    def __init__(self, labels: Rows, class_names: tuple[str, ...], limits: SequentialLimits, confidence: float) -> None:
        self.labels, self._confidence = labels, confidence
        self._present = np.flatnonzero(np.bincount(labels, minlength=len(class_names)))
        self.names = tuple(class_names[label] for label in self._present)
        for name in limits.min_class:
            if name not in self.names:
                raise InvalidSpec(f"sequential.min_class: the audit has no image of a class {shorten(name, 60)!r}.")
        self.limits: Vector = np.array([limits.limit(name) for name in self.names])
        self.available = self._count(np.arange(len(labels)))
        self._correct, self._images = np.zeros_like(self.available), np.zeros_like(self.available)

    def _count(self, rows: Rows) -> Counts:
        return np.bincount(self.labels[rows], minlength=int(self._present[-1]) + 1)[self._present]

    def add(self, rows: Rows, robust: Flags) -> None:
        """Add the block of images at `rows`; `robust` says which of them are robust."""
        self._correct += self._count(rows[robust])
        self._images += self._count(rows)

    def find_missed(self, rows: Rows, robust: Flags) -> Rows:
        """Return those of the rows whose class misses its limit, even if no further image of the block breaks.

        Args:
            rows: row numbers of the block's images.
            robust: says which of them are robust so far.
        """
        counts = self._correct + self._count(rows[robust]), self._images + self._count(rows)
        _, fails = self._decide(*counts)
        return rows[np.isin(self.labels[rows], self._present[fails])]

    def _decide(self, correct: Counts, images: Counts) -> tuple[Flags, Flags]:
        low, high = simultaneous_bounds(correct, images, self._confidence, sequence_bounds)
        return (low >= self.limits) & (images > 0), high < self.limits

    @property
    def statuses(self) -> list[Status]:
        """Return whether each class with images reaches its limit."""
        passes, fails = self._decide(self._correct, self._images)
        return [
            "pass" if passes[place] else "fail" if fails[place] else "undecided" for place in range(len(self.names))
        ]

    @property
    def status(self) -> Status:
        """Return whether every class reaches its limit; one class that misses it decides."""
        return summarise(self.statuses)

    def select_undecided(self) -> Flags:
        """Return which of all images are of a class that is undecided."""
        return np.isin(self.labels, self._present[np.array(self.statuses) == "undecided"])


def summarise(statuses: Sequence[Status]) -> Status:
    """Return whether all limits are met: one that is missed decides."""
    return "fail" if "fail" in statuses else "undecided" if "undecided" in statuses else "pass"


def draw_blocks(labels: Rows, seed: int) -> Iterator[Rows]:
    """Yield the row numbers of each block, ascending: `BLOCK` images of each class, fewer at its end, in an order by the seed."""
    order = np.random.default_rng(seed).permutation(len(labels))
    place = np.empty(len(labels), np.int64)  # of each image among those of its class
    for label in np.unique(labels):
        rows = order[labels[order] == label]
        place[rows] = np.arange(len(rows))
    for block in range(int(place.max(initial=-1)) // BLOCK + 1):
        yield np.flatnonzero(place // BLOCK == block)
