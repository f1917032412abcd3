"""Shares the audits of a running job with idle workers of its pool."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import torch

from faal_core.auditing.batches import BatchExecutor, BatchWork, OpenExecutor
from faal_core.auditing.processes import Executors
from jobs import removal, sharing
from jobs.database import open_database
from jobs.queue import Queue
from jobs.sharing import AuditKey
from worker.assignment import Assignment
from worker.exchange import Exchange
from worker.model_specs import read_spec
from worker.shared_executor import SharedExecutor
from worker.shared_work import describe_environment, describe_work, identify_work, write_weights

logger = logging.getLogger(__name__)


def open_executors(assignment: Assignment) -> Executors:
    """Return what opens the executors of the job's audits and validations."""
    return Executors(assignment.settings.processes, AuditSharing(assignment).open)


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
        """Describe the work to helpers, and exchange batches and results with them."""
        assignment, evaluator, key = self.assignment, work.evaluator, self._identify(work)
        model, spec, stored = assignment.read_model(), evaluator.classifier.spec, None
        threads = 1 if own.places > 1 else torch.get_num_threads()
        shared = describe_work(work, classifier=None, weights_file=None, threads=threads)
        if shared.weights_sha256 != model.weights_sha256 or spec != read_spec(model.spec):
            file = assignment.folder / "shared.safetensors"
            write_weights(work, file)
            stored = assignment.storage.put_file(file, media_type="application/octet-stream").sha256
            shared = shared.model_copy(update={"classifier": spec, "weights": stored})
        body, environment = shared.model_dump(mode="json"), describe_environment(evaluator.device)
        sessions = open_database(assignment.settings.database_url)
        open_audit = partial(
            sharing.open_audit, key=key, attempt=assignment.job.attempt, environment=environment, body=body
        )
        ring = partial(Queue(assignment.settings).ring, key.job_id, assignment.job.pool)
        classes = evaluator.classifier.num_classes
        try:
            with Exchange(sessions, key, assignment.job.attempt, open_audit, ring, classes) as exchange:
                yield exchange
        finally:
            sessions.close()
            if stored is not None:
                removal.discard(assignment.sessions, assignment.storage, [stored])
