"""A job ends with a code and a message for its owner, or is left to the supervisor, whatever its code raises."""

import errno
import logging
import os
import signal
from contextlib import AbstractContextManager

import pytest
import torch
from safetensors import SafetensorError
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from faal_core.errors import TrainingDiverged, WeightsMismatch
from faal_core.progress import Cancelled
from jobs import control, lifecycle, queries
from jobs.database import Sessions
from jobs.errors import FileVanished, StorageFull, StoreUnavailable
from jobs.states import JobKind, JobState
from jobs.tables import Job
from tests.storage_contents import read_contents
from worker import audit_job, job_process, supervisor
from worker.assignment import Assignment, JobResult
from worker.checkpoint import Checkpoint
from worker.confinement import ReadingInterrupted
from worker.job_process import compute, store_remains
from worker.outages import EXIT_STATUS, find_outage
from worker.progress import JobProgress


def job(sessions, job_id: str) -> Job:
    """Return the job as it is in the table."""
    with sessions() as session:
        return queries.find_job(session, job_id)


@pytest.fixture
def assignment(settings, sessions, running_job, open_checkpoint, tmp_path) -> Assignment:
    """Return a running audit."""
    checkpoint = open_checkpoint(running_job)
    progress = JobProgress(sessions, running_job, 1, checkpoint)
    return Assignment(job(sessions, running_job), settings, sessions, tmp_path / "here", progress, checkpoint)


@pytest.fixture
def make_audit_end(monkeypatch):
    """Return a function that makes every audit end with an exception or a result."""

    def choose(end: BaseException | JobResult) -> None:
        def run(assignment: Assignment) -> JobResult:
            if isinstance(end, BaseException):
                raise end
            return end

        monkeypatch.setattr(job_process, "RUNNERS", {JobKind.AUDIT: run})

    return choose


def test_known_errors_keep_code_and_message(assignment, make_audit_end):
    """An error a user can act on is passed on as it is."""
    make_audit_end(TrainingDiverged("The loss became nan."))
    assert compute(assignment) == {"code": "training-diverged", "message": "The loss became nan."}


@pytest.mark.parametrize("error", [MemoryError(), torch.OutOfMemoryError("CUDA out of memory.")])
def test_exhausted_memory_has_its_code(assignment, make_audit_end, error):
    """Lack of memory is reported as such, with advice."""
    make_audit_end(error)
    problem = compute(assignment)
    assert problem["code"] == "out-of-memory"
    assert "batch size" in problem["message"]


def as_torch_raises(error: OSError) -> RuntimeError:
    """Return the error of torch.save on a full disk: the system's own error is its context."""
    torch_error = RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 704 vs 598")
    torch_error.__context__ = error
    return torch_error


@pytest.mark.usefixtures("_signals")
@pytest.mark.parametrize(
    ("error", "outage"),
    [
        (OSError(errno.ENOSPC, "no room"), "storage-full"),
        (OSError(errno.EDQUOT, "no room"), "storage-full"),
        (as_torch_raises(OSError(errno.ENOSPC, "no room")), "storage-full"),
        (SafetensorError("I/O error: No space left on device (os error 28)"), "storage-full"),
        (StorageFull("The disk is full."), "storage-full"),
        (OperationalError("SELECT 1", None, Exception("the server closed the connection")), "database-unavailable"),
        (FileVanished("The file was removed."), "store-unavailable"),
    ],
)
def test_an_outage_settles_nothing(assignment, make_audit_end, sessions, monkeypatch, error, outage):
    """A job that the database, the storage or a full disk stops is given back with a status of its own, and does not fail."""
    make_audit_end(error)
    assert exit_status(assignment, monkeypatch) == EXIT_STATUS[outage]
    assert job(sessions, assignment.job.id).state is JobState.RUNNING


@pytest.mark.parametrize(
    "error",
    [
        WeightsMismatch("unexpected: evil (os error 28)"),
        SafetensorError("tensor `I/O error: x (os error 28)` is twice in the file"),
        RuntimeError("No space left on device"),
    ],
)
def test_a_name_in_an_upload_is_no_outage(error):
    """The text of an error may quote the upload, and does not turn it into an outage."""
    assert find_outage(error) is None


@pytest.mark.usefixtures("_signals")
def test_the_end_waits_for_the_database(assignment, make_audit_end, sessions, monkeypatch):
    """A job that ends during an outage of the database is settled once it is back, in the same attempt."""
    make_audit_end(JobResult(report="{}"))
    failures, begin = iter(range(2)), Sessions.begin

    def fail_to_open(own: Sessions) -> AbstractContextManager[Session]:
        if next(failures, None) is not None:
            raise OperationalError("BEGIN", None, Exception("no connection"))
        return begin(own)

    monkeypatch.setattr(Sessions, "begin", fail_to_open)
    start(assignment, monkeypatch)
    job_row = job(sessions, assignment.job.id)
    assert (job_row.state, job_row.attempt) == (JobState.SUCCEEDED, 1)


def test_defects_show_no_internals(assignment, make_audit_end, caplog):
    """A defect of the software is reported as such: the log has the traceback, the owner gets the job's id."""
    make_audit_end(KeyError("secret detail"))
    with caplog.at_level(logging.ERROR):
        problem = compute(assignment)
    assert problem["code"] == "internal-error"
    assert assignment.job.id in problem["message"]
    assert "secret" not in problem["message"]
    assert "KeyError: 'secret detail'" in caplog.text


@pytest.mark.parametrize("order", [Cancelled(), SystemExit(143)])
def test_orders_to_stop_settle_nothing(assignment, make_audit_end, order):
    """A job with an order to stop is settled by its supervisor, not as a failure."""
    make_audit_end(order)
    with pytest.raises(type(order)):
        compute(assignment)


@pytest.mark.usefixtures("_signals")
def test_stopping_by_itself_looks_like_obeying_the_signal(assignment, make_audit_end, monkeypatch):
    """A process that reads the order to stop before the signal arrives ends with a status that counts as no crash."""
    make_audit_end(Cancelled())
    assert exit_status(assignment, monkeypatch) in supervisor._ASKED_TO_STOP


@pytest.mark.usefixtures("_signals")
@pytest.mark.parametrize("method", ["the beginning", "the computation", "the end"])
def test_failing_store_gives_the_job_back(assignment, sessions, make_audit_end, monkeypatch, caplog, method):
    """Where the object store fails, the process ends with its own status, a line in the log, and a job not settled."""

    def fail(*_: object) -> None:
        raise StoreUnavailable("The object store does not answer.")

    if method == "the beginning":
        monkeypatch.setattr(Checkpoint, "fetch", fail)
    make_audit_end(
        StoreUnavailable("The object store does not answer.") if method == "the computation" else JobResult(report="{}")
    )
    if method == "the end":
        monkeypatch.setattr(job_process, "_store_end", fail)
    with caplog.at_level(logging.ERROR):
        assert exit_status(assignment, monkeypatch) == EXIT_STATUS["store-unavailable"]
    assert "the job is released (store-unavailable): The object store does not answer." in caplog.text
    assert "Traceback" not in caplog.text
    assert job(sessions, assignment.job.id).state is JobState.RUNNING


@pytest.mark.usefixtures("_signals")
def test_a_worker_that_cannot_read_uploads_gives_the_job_back(
    assignment, sessions, make_audit_end, monkeypatch, caplog
):
    """The process ends with an error, with a line in the log, and the upload is not judged."""
    make_audit_end(ReadingInterrupted("the process that reads uploads did not start"))
    with caplog.at_level(logging.ERROR):
        assert exit_status(assignment, monkeypatch) == os.EX_SOFTWARE
    assert "the job is released: the process that reads uploads did not start" in caplog.text
    assert job(sessions, assignment.job.id).state is JobState.RUNNING


def exit_status(assignment: Assignment, monkeypatch) -> int:
    """Return the status that the process of that assignment exits with."""
    with pytest.raises(SystemExit) as system_exit:
        start(assignment, monkeypatch)
    return int(system_exit.value.code)


def start(assignment: Assignment, monkeypatch) -> None:
    """Start the assignment's process function in this process."""
    for name, stand_in in [
        ("end_with_parent", lambda _: None),
        ("open_database", lambda *_, **__: None),
        ("open_assignment", lambda *_: assignment),
    ]:
        monkeypatch.setattr(job_process, name, stand_in)
    monkeypatch.setattr("jobs.logs.configure", lambda _: None)
    job_process.main(assignment.job.id, 1, os.getpid())


def test_every_kind_of_job_can_be_run():
    """Every kind of job has code."""
    assert set(job_process.RUNNERS) == set(JobKind)


def test_outcome_is_passed_on(assignment, make_audit_end):
    """The result that a job returns is stored at its end."""
    make_audit_end(JobResult(report="{}"))
    assert compute(assignment) == JobResult(report="{}")


@pytest.fixture
def _signals():
    """Restore the handler of SIGTERM afterwards."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.mark.usefixtures("_signals")
def test_stopped_job_stores_what_it_has(assignment, sessions):
    """A stopped job has its last saved files in storage, however recent the last copy was."""
    (assignment.folder / "audit.ledger").write_text("a line\n")
    store_remains(assignment)
    final_row = job(sessions, assignment.job.id)
    assert (final_row.state, list(final_row.checkpoint)) == (JobState.RUNNING, ["audit.ledger"])


@pytest.mark.usefixtures("_signals")
def test_cancelled_job_stores_nothing(assignment, sessions, storage, monkeypatch):
    """A cancelled job ends with its report and leaves nothing in storage."""
    monkeypatch.setattr(audit_job, "result_so_far", lambda assignment: JobResult("{}"))
    (assignment.folder / "audit.ledger").write_text("a line\n")
    with sessions.begin() as session:
        control.cancel(session, assignment.job.id)
    store_remains(assignment)
    cancelled_job = job(sessions, assignment.job.id)
    assert (cancelled_job.state, cancelled_job.checkpoint) == (JobState.CANCELLED, None)
    assert read_contents(storage) == []


@pytest.mark.usefixtures("_signals")
def test_lost_job_leaves_nothing(assignment, sessions, storage, caplog):
    """The process of an attempt that lost its job neither stores nor reports, and this is no defect."""
    (assignment.folder / "audit.ledger").write_text("a line\n")
    with sessions.begin() as session:
        lifecycle.release(session, assignment.job.id, 1, reason="worker-lost")
    store_remains(assignment)
    assert read_contents(storage) == []
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []
