"""Order the batches of an evaluation: which images are computed together, and when a batch can begin.

A step is the clean prediction or one run of one attack. Every image goes through the steps in order, until one breaks it. Each
step cuts the images that reach it, in ascending order, into batches of one size. A batch can begin once no image before its last
one can still reach its step. So batches of the next run begin before all batches of the present run have ended.

The composition of a batch therefore depends on the images and the results alone. It is the same however long batches take,
however many are computed at a time, and after an interruption.
"""

import copy
from bisect import bisect_right
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np

from faal_core.results.image_outcomes import ImageOutcomes, Rows
from faal_core.results.ledger import CLEAN, BatchResult

_FINISHED = 2**62  # step of an image after its last one
_DECIDED = 2**62 + 1  # step of an image that is misclassified, clean or after an attack


class Batch(NamedTuple):
    """The smallest work that is computed whole: some images, clean or in one run of one attack.

    Args:
        attack, run: number of the attack and of its run, from 0; attack −1 is the clean prediction.
        rows: places of the images in the data, ascending.
    """

    attack: int
    run: int
    rows: tuple[int, ...]


class AttackCount(NamedTuple):
    """Counts the images that an attack tried, those of them that some runs did not reach, and those that it broke."""

    tried: int
    untried: int
    broken: int


@dataclass(slots=True)
class _Stream:
    """The images that reach one step, in ascending order.

    Args:
        rows: the images that were undecided when the first one reached the step.
        position: number of these images, from the first, that have reached the step or can no longer do so.
        waiting: those that have reached it and are in no batch yet.
    """

    rows: Sequence[int]
    position: int = 0
    waiting: deque[int] = field(default_factory=deque)

    def copy(self) -> "_Stream":
        """Return a copy that can advance by itself."""
        return replace(self, waiting=self.waiting.copy())


@dataclass(slots=True)
class _Attack:
    """Counts the images of one attack, whose runs are the steps from `first` on."""

    runs: int
    margin_left: float | None
    first: int
    tried: int = 0
    broken: int = 0


class Schedule:
    """Cuts an evaluation into batches, and adds up their results in `outcomes`.

    Args:
        outcomes: of the images, nothing added yet.
        rows: places of the images to evaluate, ascending.
        batch_size: most images in a batch.
    """

    def __init__(self, outcomes: ImageOutcomes, rows: Sequence[int], batch_size: int) -> None:
        self.outcomes = outcomes
        self._rows, self._batch_size = rows, batch_size
        self._step = dict.fromkeys(rows, 0)
        self._images = {0: len(rows)} if rows else {}  # by step, without steps that have none
        self._streams = {0: _Stream(rows)}
        self._attacks: list[_Attack] = []

    def add_attack(self, runs: int, margin_left: float | None = None) -> None:
        """Add an attack after all others. Images that have gone through the others go to it.

        Args:
            margin_left: only images whose logit margin fell to this fraction of the clean one or below go to the attack.
        """
        first = self._attacks[-1].first + self._attacks[-1].runs if self._attacks else 1
        self._attacks.append(_Attack(runs, margin_left, first))
        if self._images.get(_FINISHED):
            finished = [row for row in self._rows if self._step[row] == _FINISHED]
            self._route(np.array(finished), len(self._attacks) - 1)

    def next_batch(self) -> Batch | None:
        """Return the batch of the earliest step that can begin, or None until further results are added.

        Each batch is returned once. The images of a batch whose result is never added go no further.
        """
        for step in sorted(self._streams):
            stream = self._streams[step]
            while stream.position < len(stream.rows) and self._step[row := stream.rows[stream.position]] >= step:
                if self._step[row] == step:
                    stream.waiting.append(row)
                stream.position += 1
            is_whole = stream.position == len(stream.rows)
            if len(stream.waiting) >= self._batch_size or (is_whole and stream.waiting):
                size = min(self._batch_size, len(stream.waiting))
                return self._batch(step, tuple(stream.waiting.popleft() for _ in range(size)))
            if is_whole:
                del self._streams[step]
        return None

    def add(self, result: BatchResult) -> int:
        """Add the result of a batch that `next_batch` returned, and return the number of images that it broke."""
        broken, rows = self.outcomes.add(result), np.array(result.rows)
        undecided = rows[self.outcomes.are_undecided(rows)]
        for row in rows[~self.outcomes.are_undecided(rows)].tolist():
            self._move(row, _DECIDED)
        if result.attack != CLEAN:
            self._attacks[result.attack].broken += broken
        self.advance(result.attack, result.run, undecided)
        return broken

    def advance(self, attack: int, run: int, rows: Rows) -> None:
        """Move undecided images that have gone through a run to the next one, or to a later attack."""
        if attack == CLEAN or run == self._attacks[attack].runs - 1:
            self._route(rows, attack + 1)
        else:
            for row in rows.tolist():
                self._move(row, self._attacks[attack].first + run + 1)

    def predict_batches(self, pending: Iterable[Batch]) -> Iterator[Batch]:
        """Yield the batches that `next_batch` returns later, if no batch breaks an image and no margin falls.

        Results of such batches can be computed early. They count only where `next_batch` returns the same batch.

        Args:
            pending: batches that were returned, and whose results are not added yet.
        """
        predicted = copy.copy(self)
        vars(predicted).update(
            _step=dict(self._step),
            _images=dict(self._images),
            _streams={step: stream.copy() for step, stream in self._streams.items()},
            _attacks=[replace(attack) for attack in self._attacks],
        )
        for batch in sorted(pending):
            predicted.advance(batch.attack, batch.run, np.array(batch.rows))
        while (following := predicted.next_batch()) is not None:
            yield following
            predicted.advance(following.attack, following.run, np.array(following.rows))

    def count(self, attack: int) -> AttackCount:
        """Count the images of an attack. Images that wait for a result of an earlier attack count as tried, too."""
        first, after = self._attacks[attack].first, self._attacks[attack].first + self._attacks[attack].runs
        before = np.array([row for row in self._rows if self._step[row] < first], dtype=np.int64)
        waiting = int(self.outcomes.are_undecided(before, self._attacks[attack].margin_left).sum())
        within = sum(images for step, images in self._images.items() if first <= step < after)
        return AttackCount(self._attacks[attack].tried + waiting, waiting + within, self._attacks[attack].broken)

    def is_complete(self, attack: int) -> bool:
        """Return whether no image is left for the attack; −1 is the clean prediction."""
        last = 0 if attack == CLEAN else self._attacks[attack].first + self._attacks[attack].runs - 1
        return min(self._images, default=_DECIDED) > last

    def count_waiting(self) -> Iterable[tuple[int, int, int]]:
        """Yield attack and run of each step that images are at, and the number of these images."""
        for step, images in self._images.items():
            if step < _FINISHED:
                yield *self._find_run(step), images

    def _route(self, rows: Rows, attack: int) -> None:
        """Move undecided images to the first attack from this one on that tries them."""
        for number in range(attack, len(self._attacks)):
            if not len(rows):
                return
            one = self._attacks[number]
            tried = self.outcomes.are_undecided(rows, one.margin_left)
            one.tried += int(tried.sum())
            for row in rows[tried].tolist():
                self._move(row, one.first)
            rows = rows[~tried]
        for row in rows.tolist():
            self._move(row, _FINISHED)

    def _move(self, row: int, step: int) -> None:
        """Move an image to a later step."""
        before = self._step[row]
        self._step[row] = step
        self._images[before] -= 1
        if not self._images[before]:
            del self._images[before]
        self._images[step] = self._images.get(step, 0) + 1
        if step < _FINISHED and step not in self._streams:
            self._rows = [one for one in self._rows if self._step[one] != _DECIDED]
            self._streams[step] = _Stream(self._rows)

    def _batch(self, step: int, rows: tuple[int, ...]) -> Batch:
        return Batch(*self._find_run(step), rows)

    def _find_run(self, step: int) -> tuple[int, int]:
        """Return attack and run of a step."""
        number = bisect_right([one.first for one in self._attacks], step) - 1
        return (number, step - self._attacks[number].first) if number >= 0 else (CLEAN, 0)
