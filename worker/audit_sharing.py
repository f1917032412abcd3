"""Shares the audits of a running job with idle workers of its pool."""

from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial

import torch

from faal_core import weights
from faal_core.auditing.batches import BatchExecutor, BatchWork, OpenExecutor
from faal_core.auditing.processes import Executors
from jobs import model_registry, removal, sharing
from jobs.database import Sessions, open_database
from jobs.queue import Queue
from jobs.sharing import AuditKey
from jobs.sharing_tables import SharedBatch
from jobs.storage import Storage, open_storage
from worker.assignment import Assignment
from worker.exchange import Exchange, check_result
from worker.model_specs import read_spec
from worker.shared_executor import SharedExecutor
from worker.shared_work import SharedWork, describe_environment, describe_work, identify_work

_STORE_PATIENCE_SECONDS = 2.0  # for the store to come back: the job does not depend on helpers


def open_executors(assignment: Assignment) -> Executors:
    """Return what opens the executors of the job's audits and validations."""
    settings = assignment.settings
    return Executors(settings.processes, AuditSharing(assignment).open if settings.help else None)


@dataclass(frozen=True, slots=True)
class AuditSharing:
    """Opens executors for the audits of a job, which share long audits with helpers.

    A batch is computed with one thread where this machine has several processes; otherwise with the threads of this process.
    """

    assignment: Assignment

    @contextmanager
    def open(self, open_own: OpenExecutor, work: BatchWork) -> Iterator[BatchExecutor]:
        """Open an executor that computes on idle workers, too, once the audit is long."""
        resumes = self.assignment.job.attempt > 1 and self._is_shared(work)
        with (
            open_own(work) as own,
            SharedExecutor(own, partial(self._open_exchange, work, own), resumes=resumes) as shared,
        ):
            yield shared

    def _is_shared(self, work: BatchWork) -> bool:
        key = self._identify(work)
        return self.assignment.read(lambda session: sharing.is_shared(session, key))

    def _identify(self, work: BatchWork) -> AuditKey:
        return AuditKey(self.assignment.job.id, identify_work(work, describe_environment(work.evaluator.device)))

    @contextmanager
    def _open_exchange(self, work: BatchWork, own: BatchExecutor) -> Iterator[Exchange]:
        """Open an exchange with helpers. All that may wait for the database or the store is done in its thread."""
        settings, key = self.assignment.settings, self._identify(work)
        threads = 1 if own.places > 1 else torch.get_num_threads()
        shared = describe_work(work, classifier=None, weights_file=None, threads=threads)
        with closing(open_database(settings.database_url)) as sessions:
            opening = _Opening(self.assignment, work, shared, key, sessions)
            ring = partial(Queue(settings).ring, key.job_id, self.assignment.job.pool)
            attempt, check = self.assignment.job.attempt, partial(check_result, work=work)
            try:
                with Exchange(sessions, key, attempt, opening.open_audit, ring, check) as exchange:
                    yield exchange
            finally:
                opening.remove_weights()


@dataclass(slots=True)
class _Opening:
    """Opens a shared audit in the database, with its weights in storage where they are not those of the job's model.

    Args:
        sessions: of the exchange, which do not wait while the database is unavailable.
    """

    assignment: Assignment
    work: BatchWork
    shared: SharedWork
    key: AuditKey
    sessions: Sessions
    stored: str | None = None  # digest of the weights' file

    def open_audit(self) -> Sequence[SharedBatch]:
        """Open the audit, and return the batches that helpers of an earlier attempt computed, or are computing."""
        job, spec = self.assignment.job, self.work.evaluator.classifier.spec
        with self.sessions() as session:
            model = model_registry.find_model(session, job.model_id or "")
        if self.shared.weights_sha256 != model.weights_sha256 or spec != read_spec(model.spec):
            self.stored = self.stored or self._store_weights()
        shared = self.shared.model_copy(update={"classifier": spec, "weights": self.stored} if self.stored else {})
        with self.sessions.begin() as session:
            return sharing.open_audit(
                session,
                self.key,
                job.attempt,
                environment=describe_environment(self.work.evaluator.device),
                body=shared.model_dump(mode="json"),
            )

    def _store_weights(self) -> str:
        """Store the weights in a file that no other job and no other attempt has, and return its digest."""
        file = self.assignment.folder / "shared.safetensors"
        purpose = f"{self.key.job_id}, attempt {self.assignment.job.attempt}, {self.key.identity}"
        weights.write_copy(file, self.work.evaluator.classifier, purpose)
        return self._storage.put_file(file, media_type="application/octet-stream").sha256

    def remove_weights(self) -> None:
        """Remove the file of the weights from storage; where that fails, a sweep does it."""
        if self.stored is not None:
            removal.discard(self.sessions, self._storage, [self.stored])

    @property
    def _storage(self) -> Storage:
        return open_storage(self.assignment.settings, patience_seconds=_STORE_PATIENCE_SECONDS)
