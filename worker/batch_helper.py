"""The loop of a helper: claim open batches of a shared audit, compute them, and store their results."""

import math
import time
from collections import deque
from collections.abc import Mapping

from faal_core.auditing.batches import BatchExecutor, FailedBatch
from faal_core.auditing.evaluator import ComputedBatch
from faal_core.results.schedule import Batch
from jobs import sharing
from jobs.database import Sessions
from jobs.sharing import AuditKey
from jobs.sharing_tables import SharedBatch
from worker.outages import ask_database

_IDLE_SECONDS = 10.0  # without an open batch, after which a helper ends
_CLAIM_SECONDS = 2.0  # of work that is claimed at a time: looking at the table must cost little
_LOOK_SECONDS = 0.25  # between two looks for open batches
_STORE_SECONDS = 0.3  # between two transactions that store results


class BatchHelper:
    """Computes batches of one shared audit.

    Args:
        worker: name of the worker that the batches are leased to.
    """

    def __init__(
        self, executor: BatchExecutor, sessions: Sessions, key: AuditKey, worker: str, lease_seconds: float
    ) -> None:
        self._executor, self._sessions, self._key = executor, sessions, key
        self._worker, self._lease_seconds = worker, lease_seconds
        self._claimed: dict[Batch, SharedBatch] = {}
        self._waiting: deque[Batch] = deque()
        self._computed: list[ComputedBatch] = []
        self._batch_seconds: dict[int, float] = {}  # seconds that the last batch of each attack took
        self._store_at = 0.0

    def run(self) -> None:
        """Compute batches until no batch was open for a while. Raises: the errors of the computation and of the database."""
        idle_until = time.monotonic() + _IDLE_SECONDS
        while time.monotonic() < idle_until:
            if not self._waiting and self._executor.free_places() > 0:
                self._claim()
            while self._waiting and self._executor.free_places() > 0:
                self._executor.submit(self._waiting.popleft())
            if self._claimed:
                idle_until = time.monotonic() + _IDLE_SECONDS
                for one in self._executor.wait(_LOOK_SECONDS):
                    if isinstance(one, FailedBatch):
                        raise one.error
                    self._computed.append(one)
                self._store()
            else:
                time.sleep(_LOOK_SECONDS)

    def _claim(self) -> None:
        """Claim as many batches as take `_CLAIM_SECONDS`, or one for each place."""
        for row in ask_database(self._claim_rows):
            batch = Batch(row.attack, row.run, tuple(row.rows))
            if batch not in self._claimed:  # else its lease ran out, and this worker claimed it again
                self._waiting.append(batch)
            self._claimed[batch] = row

    def _claim_rows(self) -> list[SharedBatch]:
        def most(attack: int) -> int:
            each = math.floor(_CLAIM_SECONDS / max(self._batch_seconds.get(attack, math.inf), 1e-3))
            return self._executor.places * max(each, 1)

        with self._sessions.begin() as session:
            claimed = sharing.claim_batches(
                session, self._key, worker=self._worker, lease_seconds=self._lease_seconds, most=most
            )
            return list(claimed)

    def _store(self) -> None:
        """Store the results that have come, unless this was done a moment ago and others are to come."""
        is_last = len(self._computed) == len(self._claimed)
        if not self._computed or (time.monotonic() < self._store_at and not is_last):
            return
        still_claimed = ask_database(self._store_rows)
        for one in self._computed:
            self._batch_seconds[one.result.attack] = one.result.seconds
            del self._claimed[_batch(one)]
        self._computed.clear()
        self._store_at = time.monotonic() + _STORE_SECONDS
        for batch in [*self._waiting]:
            if still_claimed.get(self._claimed[batch].number) != self._claimed[batch].attempt:
                self._waiting.remove(batch)  # the job's process took it back
                del self._claimed[batch]

    def _store_rows(self) -> Mapping[int, int]:
        """Store the results, and return the attempts of the batches that are still claimed, by number."""
        with self._sessions.begin() as session:
            for one in sorted(self._computed, key=lambda one: self._claimed[_batch(one)].number):
                sharing.store_result(session, self._claimed[_batch(one)], one.result.model_dump_json())
            return sharing.list_claimed(session, self._key, self._worker)


def _batch(computed: ComputedBatch) -> Batch:
    return Batch(computed.result.attack, computed.result.run, computed.result.rows)
