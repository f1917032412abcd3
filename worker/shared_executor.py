"""An executor that computes batches in this process's own executor, and shares them with idle workers once the audit is long."""

import logging
import math
import time
from collections import deque
from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractContextManager, ExitStack
from types import TracebackType
from typing import Self

from faal_core.auditing.batches import BatchExecutor, FailedBatch
from faal_core.auditing.evaluator import ComputedBatch
from faal_core.results.ledger import CLEAN, BatchResult
from faal_core.results.schedule import Batch
from worker.exchange import Exchange

logger = logging.getLogger(__name__)

AHEAD_SECONDS = 4.0  # of work that is taken ahead for each place, so that helpers claim several batches at a time
_OWN_SECONDS = 1.0  # of work that is kept for the own executor
_MATURE_SECONDS = (
    3.0  # after which an audit is long enough: a helper starts in a second, reads model and images, and claims
)
_SHARED_SECONDS = 0.5  # of work that waits for each place, at least, for the audit to be shared
_MOST_AHEAD = 64  # batches for each place
_OPEN_SECONDS = 5.0  # for the results of an earlier attempt
_LOOK_SECONDS = 0.1  # between two looks at the own executor while helpers work


class SharedExecutor:
    """Computes batches here and on helpers. It is used by one thread.

    A batch that a helper does not return in time is computed here too; the first result counts.

    Args:
        own: computes batches in this process or its children.
        open_exchange: offers batches to helpers; called once, when the audit has become long.
        resumes: whether an earlier attempt may have left results; then the exchange is opened at once.
    """

    def __init__(
        self,
        own: BatchExecutor,
        open_exchange: Callable[[], AbstractContextManager[Exchange]],
        *,
        resumes: bool,
    ) -> None:
        self._own, self._open_exchange = own, open_exchange
        self._stack = ExitStack()
        self._exchange: Exchange | None = None
        self._begin = time.monotonic()
        self._pending: deque[Batch] = deque()
        self._unfinished: set[Batch] = set()
        self._running_here: set[Batch] = set()
        self._early: dict[Batch, BatchResult] = {}  # of batches that nobody has submitted yet
        self._batch_seconds: dict[int, float] = {}  # seconds that a batch of each attack takes, averages of the latest
        self._latest_attack = CLEAN  # of the batch that was submitted last
        if resumes:
            self._share()
            if self._exchange is not None:
                self._exchange.wait_until_open(_OPEN_SECONDS)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    @property
    def places(self) -> int:
        """Return the places of the own executor, and one for each helper."""
        return self._own.places + (0 if self._exchange is None else self._exchange.helpers)

    def free_places(self) -> int:
        """Return how many more batches it takes: a second of work for each place, and more once the audit is shared."""
        least = self._own.free_places() - len(self._pending)
        if self._latest_attack not in self._batch_seconds:
            return max(least, 0)
        is_shared = self._exchange is not None
        places = self.places + int(is_shared)  # one more, for the next helper
        ahead = self._count_batches(AHEAD_SECONDS if is_shared else 2 * _SHARED_SECONDS)
        if self._is_mature:
            ahead = max(ahead, 2)  # one to compute, and one that shows whether there is enough to share
        return max(least, min(ahead, _MOST_AHEAD) * places - len(self._unfinished), 0)

    def submit(self, batch: Batch) -> None:
        """Queue the batch, unless it is being computed already."""
        self._unfinished.add(batch)
        self._latest_attack = batch.attack
        if batch not in self._early and not (self._exchange and self._exchange.has(batch)):
            self._pending.append(batch)

    def wait(self, seconds: float) -> Sequence[ComputedBatch | FailedBatch]:
        """Return the results that have come from here and from helpers.

        Raises: the errors of the own executor.
        """
        deadline = time.monotonic() + seconds
        while True:
            self._distribute()
            computed = self._collect(max(deadline - time.monotonic(), 0.0))
            if computed or time.monotonic() >= deadline:
                return computed

    def withdraw(self) -> Collection[Batch]:
        """Forget the submitted batches that neither this process nor a helper has started, and return them."""
        withdrawn = list(self._pending)
        self._pending.clear()
        while self._exchange is not None and (batch := self._exchange.take_back(self._unfinished)) is not None:
            withdrawn.append(batch)
        self._unfinished -= set(withdrawn)
        return withdrawn

    def _distribute(self) -> None:
        """Give batches to the own executor, the earliest first, and offer the last ones to helpers."""
        while self._own.free_places() > 0 and (batch := self._next_own()) is not None:
            self._own.submit(batch)
            self._running_here.add(batch)
        if self._exchange is None and self._is_long():
            self._share()
        if self._exchange is not None and self._exchange.is_working and self._latest_attack in self._batch_seconds:
            own = self._own.places * self._count_batches(_OWN_SECONDS)
            offered = len(self._pending) - min(own, len(self._pending) // 2)
            self._exchange.offer([self._pending.pop() for _ in range(offered)][::-1])

    def _count_batches(self, seconds: float) -> int:
        """Return how many batches of the present attack a place computes in that time, at least 1."""
        return math.ceil(seconds / max(self._batch_seconds[self._latest_attack], 1e-3))

    def _next_own(self) -> Batch | None:
        if self._pending:
            return self._pending.popleft()
        if self._exchange is None:
            return None
        seconds = self._batch_seconds.get(self._latest_attack)
        patience = 2 * AHEAD_SECONDS if seconds is None else max(AHEAD_SECONDS, 3 * seconds)
        return self._exchange.take_back(self._unfinished - self._running_here, patience)

    def _is_long(self) -> bool:
        """Return whether the audit has run for a while, and has enough batches left for helpers to be worth their start."""
        seconds = self._batch_seconds.get(self._latest_attack)
        return (
            self._is_mature
            and seconds is not None
            and len(self._pending) * seconds >= _SHARED_SECONDS * self._own.places
        )

    @property
    def _is_mature(self) -> bool:
        return time.monotonic() >= self._begin + _MATURE_SECONDS

    def _share(self) -> None:
        try:
            self._exchange = self._stack.enter_context(self._open_exchange())
        except Exception:
            logger.exception("the audit is not shared with other workers")
            self._begin = math.inf

    def _collect(self, seconds: float) -> list[ComputedBatch | FailedBatch]:
        """Return new results; wait at most that long for the first."""
        results = [] if self._exchange is None else list(self._exchange.take_results(0.0))
        computed: dict[Batch, ComputedBatch | FailedBatch] = {}
        if self._running_here:
            look = 0.0 if results else seconds if self._exchange is None else min(seconds, _LOOK_SECONDS)
            for one in self._own.wait(look):
                batch = one.batch if isinstance(one, FailedBatch) else _batch(one.result)
                self._running_here.discard(batch)
                computed[batch] = one
                if isinstance(one, ComputedBatch):
                    before = self._batch_seconds.get(batch.attack, one.result.seconds)
                    self._batch_seconds[batch.attack] = 0.8 * before + 0.2 * one.result.seconds
        elif self._exchange is not None and not results:
            results = list(self._exchange.take_results(min(seconds, _LOOK_SECONDS)))
        self._early |= {_batch(result): result for result in results}
        for batch in self._early.keys() & self._unfinished:
            computed[batch] = ComputedBatch(self._early.pop(batch))
        new = {batch: one for batch, one in computed.items() if batch in self._unfinished}
        self._unfinished -= new.keys()
        return list(new.values())


def _batch(result: BatchResult) -> Batch:
    return Batch(result.attack, result.run, result.rows)
