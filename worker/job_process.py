"""`python -m worker.job_process JOB ATTEMPT PARENT`: the process that computes a job; only this process uses CUDA.

It stores progress and the job's end itself. When it is asked to stop, it ends and the supervisor releases the job. Before
that, in the time that the supervisor allows, it stores the checkpoint, or the report of a cancelled audit's results so far.
"""

import logging
import os
import signal
import sys
from collections.abc import Callable, Mapping
from types import FrameType, MappingProxyType
from typing import NoReturn

from structlog.contextvars import bind_contextvars

from faal_core import catalog
from faal_core.errors import FaalError, InvalidSpec, OutOfMemory
from faal_core.errors.memory_exhaustion import is_out_of_memory
from faal_core.lifetime import end_with_parent
from faal_core.progress import Cancelled
from jobs import artifacts, lifecycle, logs, queries, removal
from jobs.database import Sessions, open_database
from jobs.errors import JobsError, LeaseLost
from jobs.settings import Settings
from jobs.states import JobKind
from jobs.storage import open_storage
from jobs.tables import Problem
from worker import audit_job, candidate_job, check_job, compare_job, finetune_job
from worker.assignment import Assignment, JobResult
from worker.checkpoint import Checkpoint
from worker.confinement import ReadingInterrupted
from worker.outages import EXIT_STATUS, ask_database, find_outage
from worker.progress import JobProgress
from worker.warm_process import ForkClient

logger = logging.getLogger(__name__)

_MOST_EVENTS = 100_000  # more than any job has

RUNNERS: Mapping[JobKind, Callable[[Assignment], JobResult]] = MappingProxyType(
    {
        JobKind.FINETUNE: finetune_job.run,
        JobKind.AUDIT: audit_job.run,
        JobKind.COMPARE: compare_job.run,
        JobKind.CHECK_MODEL: check_job.check_model,
        JobKind.MAKE_CANDIDATE: candidate_job.run,
        JobKind.CHECK_DATASET: check_job.check_dataset,
    }
)


def main(job_id: str, attempt: int, parent: int, forks: ForkClient | None = None) -> None:
    """Run one attempt of a job: compute it, and store its result and its end.

    On SIGTERM, and when the lease is lost, it stops and the job does not end.

    Args:
        parent: the process with which this one ends.
        forks: client of the warm process, for processes that read uploads.

    Raises: SystemExit, after which the supervisor releases the job: with one of `outages.EXIT_STATUS` after an outage, with
        EX_SOFTWARE where this worker could not read an upload.
    """
    signal.signal(signal.SIGTERM, _exit_on_signal)
    end_with_parent(parent)
    settings = Settings()
    catalog.offer_networks(settings.networks)
    logs.configure(settings.log_format)
    bind_contextvars(job_id=job_id, attempt=attempt)
    sessions = open_database(settings.database_url, pooled=False)
    try:
        assignment = ask_database(lambda: open_assignment(settings, sessions, job_id, attempt, forks))
        assignment.checkpoint.fetch(assignment.storage.for_job(job_id))
    except LeaseLost as lost:
        logger.warning(lost.message)
        return
    except Exception as error:  # noqa: BLE001 - raised again unless it is an outage
        _exit_after_outage(error)
    status = 0
    try:
        result = compute(assignment)
        ask_database(lambda: _store_end(assignment, attempt, result))
    except LeaseLost as lost:
        logger.warning(lost.message)
        removal.discard(sessions, assignment.storage, assignment.stored_digests)
        return
    except ReadingInterrupted as reason:
        logger.error("the job is released: %s", reason)
        sys.exit(os.EX_SOFTWARE)
    except Cancelled as reason:
        logger.info("job %s, attempt %d stops: %s", job_id, attempt, reason)
        status = 128 + signal.SIGTERM  # as if the request had come by signal
    except SystemExit as stop:
        status = int(stop.code or 0)
    except Exception as error:  # noqa: BLE001 - raised again unless it is an outage
        _exit_after_outage(error)
    else:
        return
    store_remains(assignment)
    sys.exit(status)


def compute(assignment: Assignment) -> JobResult | Problem:
    """Return the job's result, or the problem that it failed with.

    Raises: Cancelled; ReadingInterrupted; the original error after an outage, since another attempt may succeed.
    """
    job = assignment.job
    try:
        return RUNNERS[job.kind](assignment)
    except ReadingInterrupted:
        raise
    except Exception as error:
        if find_outage(error) is not None:
            raise
        if isinstance(error, FaalError | JobsError):
            return {"code": error.code, "message": error.message}
        logger.exception("job %s, attempt %d", job.id, job.attempt)
        if is_out_of_memory(error):
            advice = "Submit the job again with a smaller batch size, or run a worker with more memory."
            return {"code": OutOfMemory.code, "message": f"Memory ran out. {advice}"}
        message = (
            f"A defect of FAAL stopped this job. Look for {job.id}, attempt {job.attempt}, in the worker's log and report the "
            "defect."
        )
        return {"code": "internal-error", "message": message}


def open_assignment(
    settings: Settings, sessions: Sessions, job_id: str, attempt: int, forks: ForkClient | None = None
) -> Assignment:
    """Return the job with all that its code needs. Raises: LeaseLost; OSError, after which another attempt may succeed."""
    with sessions.begin() as session:
        job = lifecycle.lock_leased_job(session, job_id, attempt)
        allowed = lifecycle.seconds_allowed(session, job)
        events = queries.list_events(session, job_id, limit=_MOST_EVENTS) if attempt > 1 else []
    earlier_rows = [{name: value for name, value in event.body.items() if name != "stage"} for event in events]
    folder = settings.checkpoints_dir / job_id
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    checkpoint = Checkpoint(job, folder, open_storage(settings).for_job(job_id), sessions, settings.checkpoint_seconds)
    progress = JobProgress(
        sessions,
        job_id,
        attempt,
        checkpoint,
        earlier_rows=earlier_rows,
        seconds_run=job.seconds_run,
        seconds_allowed=allowed,
    )
    return Assignment(job, settings, sessions, folder, progress, checkpoint, forks)


def _store_end(assignment: Assignment, attempt: int, result: JobResult | Problem) -> None:
    """Store the job's result and its end in one transaction, then remove the file of an upload that was checked.

    Raises: LeaseLost, StoreUnavailable; FileVanished, after which another attempt stores the file again.
    """
    job_id = assignment.job.id
    with assignment.sessions.begin() as session:
        lifecycle.record_progress(session, job_id, attempt, seconds_run=assignment.progress.seconds_run())
        for event in assignment.progress.pending_events():
            lifecycle.record_progress(session, job_id, attempt, event=event)
        if isinstance(result, JobResult):
            lifecycle.succeed(
                session,
                job_id,
                attempt,
                report=result.report,
                outcomes=result.outcomes,
                result_model=result.result_model,
                summary=result.summary,
                trained=result.trained,
                finding=result.finding,
            )
            storage = open_storage(assignment.settings)  # with little patience: the job's row is locked
            if result.result_model is not None:
                artifacts.require_in_storage(storage, result.result_model.file)
            if result.trained is not None:
                artifacts.require_in_storage(storage, result.trained)
            for stored in result.outcomes.values():
                artifacts.require_in_storage(storage, stored)
        else:
            lifecycle.fail(session, job_id, attempt, **result)
    if assignment.job.kind in (JobKind.CHECK_MODEL, JobKind.CHECK_DATASET):
        removal.try_collect(assignment.sessions, assignment.storage)


def store_remains(assignment: Assignment) -> None:
    """Store the report of a cancelled audit, or the checkpoint of another job that stops, and discard unused results.

    A failure is logged: the supervisor releases or cancels the job in any case.
    """
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # the supervisor's patience is the limit
    job = assignment.job
    try:
        with assignment.sessions.begin() as session:
            cancelled = lifecycle.lock_leased_job(session, job.id, job.attempt).cancel_requested
        if not cancelled:
            assignment.checkpoint.store()
        elif job.kind is JobKind.AUDIT:
            result = audit_job.result_so_far(assignment)
            with assignment.sessions.begin() as session:
                lifecycle.cancel_running(session, job.id, job.attempt, report=result.report, outcomes=result.outcomes)
                for stored in result.outcomes.values():
                    artifacts.require_in_storage(open_storage(assignment.settings), stored)
    except (InvalidSpec, LeaseLost) as error:
        logger.info("job %s, attempt %d: %s", job.id, job.attempt, error.message)
    except Exception:
        logger.exception("job %s, attempt %d: the results so far were not stored", job.id, job.attempt)
    removal.discard(assignment.sessions, assignment.storage, assignment.stored_digests)


def _exit_after_outage(error: Exception) -> NoReturn:
    """Exit with the status of the outage that `error` means. Raises: `error` itself where it means none."""
    outage = find_outage(error)
    if outage is None:
        raise error
    logger.error("the job is released (%s): %s", outage, error)
    sys.exit(EXIT_STATUS[outage])


def _exit_on_signal(number: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
