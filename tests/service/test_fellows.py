"""A fine-tuning that several processes train: it ends once, and none of them outlives another."""

import os
import signal
from pathlib import Path

import pytest

from jobs import lifecycle
from jobs.states import JobState
from tests.service.processes import Site, gone, until
from tests.service.small_jobs import EPOCHS, submit_finetuning


def fellows_of(leader: int) -> list[int]:
    """Numbers of the processes that train with that one."""
    started = [int(pid) for task in Path(f"/proc/{leader}/task").glob("*/children") for pid in task.read_text().split()]
    return [pid for pid in started if b"worker.fellow_process" in Path(f"/proc/{pid}/cmdline").read_bytes()]


@pytest.fixture
def pair(open_site) -> Site:
    """An installation whose fine-tunings train with two processes."""
    return open_site(processes=2, checkpoint_seconds=0)


def test_two_processes_train_one_job(pair, weights_file):
    """The job has one report with every epoch once, and both processes are gone afterwards."""
    job_id = submit_finetuning(pair, weights_file)
    worker = pair.worker()
    pair.begun(job_id, epochs=1)
    leader = worker.children[0]
    (fellow,) = fellows_of(leader)
    job = pair.ended(job_id)
    assert (job.state, job.attempt, job.crashes) == (JobState.SUCCEEDED, 1, 0), pair.tell()
    assert [event.body["epoch"] for event in pair.events(job_id, "epoch")] == list(range(1, EPOCHS + 1))
    assert pair.report(job_id) is not None
    until(lambda: gone(leader) and gone(fellow), within_seconds=5)


@pytest.mark.parametrize("who", ["leader", "fellow"])
def test_one_of_two_dies(pair, weights_file, who):
    """After `kill -9` of either process the other ends too, and the next attempt goes on from the checkpoint."""
    job_id = submit_finetuning(pair, weights_file)
    worker = pair.worker()
    pair.begun(job_id, epochs=1)
    leader = worker.children[0]
    (fellow,) = fellows_of(leader)
    os.kill(leader if who == "leader" else fellow, signal.SIGKILL)
    until(lambda: gone(leader) and gone(fellow), within_seconds=10, tell=pair.tell)
    job = pair.ended(job_id)
    assert (job.state, job.attempt, job.crashes) == (JobState.SUCCEEDED, 2, 1), pair.tell()
    assert [event.body["epoch"] for event in pair.events(job_id, "epoch")] == list(range(1, EPOCHS + 1))


def test_cancelled_while_two_train(pair, weights_file):
    """Cancellation ends both processes, and is no crash."""
    job_id = submit_finetuning(pair, weights_file)
    worker = pair.worker()
    pair.begun(job_id, epochs=1)
    leader = worker.children[0]
    (fellow,) = fellows_of(leader)
    with pair.sessions.begin() as session:
        lifecycle.request_cancel(session, job_id)
    job = pair.ended(job_id)
    assert (job.state, job.crashes) == (JobState.CANCELLED, 0), pair.tell()
    until(lambda: gone(leader) and gone(fellow), within_seconds=15)
