"""A thread that offers the batches of an audit to other workers through the database, and fetches their results."""

import logging
import math
import threading
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import suppress
from typing import NamedTuple, Self

import torch
from pydantic import ValidationError

from faal_core.auditing.batches import BatchWork
from faal_core.results.ledger import CLEAN, BatchResult
from faal_core.results.schedule import Batch
from jobs import sharing
from jobs.database import Sessions
from jobs.errors import LeaseLost
from jobs.sharing import AuditKey
from jobs.sharing_tables import SharedBatch

logger = logging.getLogger(__name__)

_POLL_SECONDS = 0.2  # between two looks at the table
_PRESENT_SECONDS = 10.0  # since a worker had a batch, in which it counts as a helper
_LONGEST_PAUSE_SECONDS = 10.0  # after failures of the database, each of which doubles the pause
_MOST_MARGIN = 1.0 + 1e-6  # of probabilities, with rounding
_LARGEST_DISTANCE = 1.0 + 1e-3  # of an adversarial image, as a multiple of the radius, with rounding
_DIGITS = 64  # of SHA-256


class Offered(NamedTuple):
    """Describes a batch in the table.

    Args:
        leased_since: when a lease of a helper was first seen, on the monotonic clock; None while the batch is open.
    """

    batch: Batch
    leased_since: float | None = None


class Exchange:
    """Offers batches and receives results. The thread runs until the `with` block ends; other threads call the methods.

    While the database is unavailable nothing is offered and no result comes, and nothing waits for it.

    Args:
        key: the shared audit. Where the block ends with an error, the audit stays open for the job's next attempt.
        attempt: of the job.
        open_audit: opens the audit, and returns the batches that helpers of an earlier attempt computed, or are computing.
        ring: tells an idle worker, once the first batches are open.
        check: returns the result of a batch; None where it is not sound.
    """

    def __init__(
        self,
        sessions: Sessions,
        key: AuditKey,
        attempt: int,
        open_audit: Callable[[], Sequence[SharedBatch]],
        ring: Callable[[], object],
        check: Callable[[SharedBatch], BatchResult | None],
    ) -> None:
        self._sessions, self._key, self._attempt = sessions, key, attempt
        self._open_audit, self._ring, self._check = open_audit, ring, check
        self._changed = threading.Condition()
        self._offered: dict[int, Offered] = {}
        self._next_number = 0
        self._to_insert: dict[int, Batch] = {}
        self._to_delete: set[int] = set()
        self._results: list[BatchResult] = []
        self._seen: dict[str, float] = {}  # when each helper was last seen
        self._helpers = 0
        self._opened = self._rung = self._ending = self._failing = self._finished = False
        self._thread = threading.Thread(target=self._run, name="exchange", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        with self._changed:
            self._ending, self._finished = True, kind is None
            self._changed.notify_all()
        self._thread.join()

    @property
    def helpers(self) -> int:
        """Return the number of workers that help."""
        return self._helpers

    @property
    def is_working(self) -> bool:
        """Return whether batches can be offered: the audit is open, the database answers, and the attempt holds the job."""
        return self._opened and not self._failing and self._thread.is_alive()

    def wait_until_open(self, seconds: float) -> None:
        """Wait until the audit is open, for at most that many seconds."""
        with self._changed:
            self._changed.wait_for(lambda: self._opened, seconds)

    def has(self, batch: Batch) -> bool:
        """Return whether the batch is in the table."""
        with self._changed:
            return any(offered.batch == batch for offered in self._offered.values())

    def offer(self, batches: Iterable[Batch]) -> None:
        """Put the batches into the table with the next look at it."""
        with self._changed:
            for batch in batches:
                self._to_insert[self._next_number] = batch
                self._offered[self._next_number] = Offered(batch)
                self._next_number += 1

    def take_back(self, batches: Collection[Batch], leased_for: float = math.inf) -> Batch | None:
        """Take one of the batches back that no helper has claimed, or else one that has been leased for that many seconds.

        If a helper computes it too, the first result counts. Returns: None without such a batch.
        """
        with self._changed:
            number = self._find_open(batches)
            if number is None and (number := self._find_leased(batches, leased_for)) is None:
                return None
            if self._to_insert.pop(number, None) is None:
                self._to_delete.add(number)
            return self._offered.pop(number).batch

    def take_results(self, seconds: float) -> Sequence[BatchResult]:
        """Return the results that have come, and wait at most that long for the first of them."""
        with self._changed:
            self._changed.wait_for(lambda: self._results, seconds)
            results, self._results = self._results, []
            return results

    def _find_open(self, batches: Collection[Batch]) -> int | None:
        """Return the number of the open batch that was offered last, or None."""
        are_open = (n for n, one in self._offered.items() if one.leased_since is None and one.batch in batches)
        return max(are_open, default=None)

    def _find_leased(self, batches: Collection[Batch], seconds: float) -> int | None:
        before = time.monotonic() - seconds
        leased = [(n, one) for n, one in self._offered.items() if one.leased_since is not None and one.batch in batches]
        old = [number for number, one in leased if (one.leased_since or 0.0) <= before]
        return min(old, key=lambda number: self._offered[number].leased_since or 0.0, default=None)

    def _run(self) -> None:
        pause = _POLL_SECONDS
        while not self._ending:
            try:
                if not self._opened:
                    self._open()
                self._exchange()
                pause, self._failing = _POLL_SECONDS, False
            except LeaseLost as lost:
                logger.info(lost.message)
                return
            except Exception as error:  # noqa: BLE001 - whatever the database says, the audit continues without helpers
                logger.warning("batches of job %s are not exchanged: %s", self._key.job_id, error)
                pause, self._failing = min(2 * pause, _LONGEST_PAUSE_SECONDS), True
            with self._changed:
                self._changed.wait_for(lambda: self._ending, pause)
        with suppress(Exception):  # the job's next attempt or its end does the same
            if self._helpers:
                self._record_helpers(0)
            if self._finished:
                with self._sessions.begin() as session:
                    sharing.close_audit(session, self._key, self._attempt)

    def _open(self) -> None:
        now, earlier = time.monotonic(), self._open_audit()
        with self._changed:
            self._offered = {row.number: Offered(_batch(row), now) for row in earlier}
            self._next_number = max(self._offered, default=-1) + 1
            self._opened = True
            self._changed.notify_all()

    def _exchange(self) -> None:
        """Insert and delete batches, and receive results, once."""
        with self._changed:
            inserted, deleted = dict(self._to_insert), set(self._to_delete)
        if inserted or deleted:
            with self._sessions.begin() as session:
                sharing.offer(session, self._key, self._attempt, inserted.items())
                sharing.discard(session, self._key, self._attempt, deleted)
            with self._changed:
                # A batch that was taken back meanwhile is not in `_to_insert`, but in the table now.
                self._to_delete |= {number for number in inserted if number not in self._offered}
                self._to_delete -= deleted
                for number in inserted:
                    self._to_insert.pop(number, None)
            if not self._rung:
                self._rung = True
                self._ring()
        with self._sessions() as session:
            leased = sharing.list_leased(session, self._key)
            rows = sharing.find_results(session, self._key)
        now, computed = time.monotonic(), {row.number for row in rows}  # these are neither leased nor to be taken back
        with self._changed:
            for number, one in self._offered.items():
                if number not in computed and (number in leased) != (one.leased_since is not None):
                    self._offered[number] = Offered(one.batch, now if number in leased else None)
        self._seen |= dict.fromkeys([*leased.values(), *(row.worker or "" for row in rows)], now)
        if rows:
            self._take(rows)
        helpers = sum(seen > now - _PRESENT_SECONDS for seen in self._seen.values())
        if helpers != self._helpers:
            self._record_helpers(helpers)

    def _take(self, rows: Sequence[SharedBatch]) -> None:
        """Pass the results on that are sound; the others' batches are left to this process."""
        with self._sessions.begin() as session:
            sharing.discard(session, self._key, self._attempt, [row.number for row in rows])
        with self._changed:
            for row in rows:
                result = self._check(row)
                if result is not None:
                    self._offered.pop(row.number, None)
                    self._results.append(result)
                else:
                    if row.number in self._offered:
                        self._offered[row.number] = Offered(_batch(row))
                    logger.error(
                        "worker %s returned a wrong result for a batch of job %s", row.worker, self._key.job_id
                    )
            self._changed.notify_all()

    def _record_helpers(self, helpers: int) -> None:
        with self._sessions.begin() as session:
            sharing.record_helpers(session, self._key.job_id, self._attempt, helpers, joined=helpers > self._helpers)
        self._helpers = helpers


def check_result(row: SharedBatch, work: BatchWork) -> BatchResult | None:
    """Return the result of a helper; None where it is not one of this batch, or has values that no batch has."""
    try:
        result = BatchResult.model_validate_json(row.result or "")
    except ValidationError:
        return None
    images, classes = len(row.rows), work.evaluator.classifier.num_classes
    labels = work.evaluator.data.labels[torch.tensor(row.rows)].tolist()
    radius = 0.0 if row.attack == CLEAN else _LARGEST_DISTANCE * work.threat.epsilon
    columns = (result.predicted, result.margin, result.logit_margin, result.distance, result.sha256)
    sound = (
        _batch(row) == Batch(result.attack, result.run, result.rows)
        and all(len(column) == images for column in columns)
        and all(0 <= predicted < classes for predicted in result.predicted)
        and all(abs(margin) <= _MOST_MARGIN for margin in result.margin)
        and all(0 <= distance <= radius for distance in result.distance)
        and all(
            digest == "" if row.attack == CLEAN or predicted == label else len(digest) == _DIGITS
            for digest, predicted, label in zip(result.sha256, result.predicted, labels, strict=True)
        )
        and min(result.forward, result.backward, result.seconds) >= 0
    )
    return result if sound else None


def _batch(row: SharedBatch) -> Batch:
    return Batch(row.attack, row.run, tuple(row.rows))
