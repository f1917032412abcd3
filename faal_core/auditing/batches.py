"""Define the interface that computes the batches of an evaluation: in this process, or in several."""

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import torch

from faal_core import attacks
from faal_core.attacks import Attack
from faal_core.auditing.evaluator import ComputedBatch, Evaluator, freeze_weights
from faal_core.results.ledger import CLEAN
from faal_core.results.schedule import Batch
from faal_core.specs import AttackSpec
from faal_core.threat_model import ThreatModel


@dataclass(frozen=True)
class BatchWork:
    """All that a process needs to compute any batch of an evaluation.

    Args:
        threat, specs: the threat model and the attacks, in their order.
    """

    evaluator: Evaluator
    threat: ThreatModel
    specs: tuple[AttackSpec, ...]
    attacks: tuple[Attack, ...] = field(init=False)

    def __post_init__(self) -> None:
        """Build the attacks. Raises: InvalidSpec where the evaluator lacks the source of an attack."""
        classes = self.evaluator.classifier.num_classes
        object.__setattr__(
            self, "attacks", tuple(attacks.build(spec, classes, self.evaluator.sources) for spec in self.specs)
        )

    def compute(self, batch: Batch) -> ComputedBatch:
        """Return the result of a batch. It does not depend on the other batches that this process computes.

        Raises: ClassifierUnsuitable, OutOfMemory.
        """
        rows = torch.tensor(batch.rows, dtype=torch.int64)
        with freeze_weights(self.evaluator.classifier, *self.evaluator.sources.values()):
            if batch.attack == CLEAN:
                return self.evaluator.evaluate_clean(rows)
            attack = self.attacks[batch.attack]
            return self.evaluator.evaluate_attack(attack, batch.attack, batch.run, rows, self.threat)


@dataclass(frozen=True, slots=True)
class FailedBatch:
    """Holds the error that a batch ended with. It counts only if the batch is needed."""

    batch: Batch
    error: BaseException


@runtime_checkable
class BatchExecutor(Protocol):
    """Computes the batches of one evaluation, in any order and several at a time.

    A batch whose process is lost is computed again by the executor itself. Some batches are submitted before they are
    known to be needed; the evaluation may end without their results.
    """

    @property
    def places(self) -> int:
        """Return how many batches it computes at a time, at least 1; the number may change."""

    def free_places(self) -> int:
        """Return how many more batches it takes now."""

    def submit(self, batch: Batch) -> None:
        """Begin to compute a batch. The caller has seen that a place is free."""

    def wait(self, seconds: float) -> Sequence[ComputedBatch | FailedBatch]:
        """Return the results that have come since the last call; wait at most that many seconds for the first.

        An error may also be raised here if the only batch in work is needed: ClassifierUnsuitable, OutOfMemory, or another one.
        """

    def withdraw(self) -> Collection[Batch]:
        """Forget the submitted batches that nobody has started, and return them."""


OpenExecutor = Callable[[BatchWork], AbstractContextManager[BatchExecutor]]
"""Opens an executor. Leaving the context ends all computation at once, also after an error and when the work was cancelled."""

ShareWork = Callable[[OpenExecutor, BatchWork], AbstractContextManager[BatchExecutor]]
"""Opens an executor that computes batches in the executor of the given opener, and elsewhere."""


class OneProcess:
    """Computes batches in this process, one after the other, while the caller waits."""

    places = 1

    def __init__(self, work: BatchWork) -> None:
        self._work = work
        self._batch: Batch | None = None

    def free_places(self) -> int:
        """Return 1, or 0 where a batch waits to be computed."""
        return int(self._batch is None)

    def submit(self, batch: Batch) -> None:
        """Store the batch for the next `wait`."""
        self._batch = batch

    def wait(self, seconds: float) -> Sequence[ComputedBatch]:
        """Compute the batch, and return its result, however long that takes."""
        batch, self._batch = self._batch, None
        return [] if batch is None else [self._work.compute(batch)]

    def withdraw(self) -> Collection[Batch]:
        """Return none: a batch starts at once."""
        return ()


@contextmanager
def open_one_process(work: BatchWork) -> Iterator[OneProcess]:
    """Compute batches in this process."""
    yield OneProcess(work)
