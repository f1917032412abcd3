"""A fine-tuning that several processes train ends once, and no process outlives another."""

import os
import signal
from dataclasses import dataclass

import pytest

from jobs import control
from jobs.states import JobState
from tests.service.processes import Site, command_line, descendants, is_gone, wait_until
from tests.service.small_jobs import EPOCHS, submit_finetuning


@dataclass(frozen=True)
class Pair:
    """A job in its second epoch, and the two processes that train it."""

    site: Site
    job_id: str
    leader: int
    rank_1: int

    def is_gone(self) -> bool:
        """Return whether both have ended."""
        return is_gone(self.leader) and is_gone(self.rank_1)

    def epochs(self) -> list[int]:
        """Return the numbers of the computed epochs."""
        return [event.body["epoch"] for event in self.site.events(self.job_id, "epoch")]


def rank_processes(leader: int) -> list[int]:
    """Return the ids of the processes that train together with that one."""
    return [pid for pid in descendants(leader) if "worker.rank_process" in command_line(pid)]


@pytest.fixture
def pair(open_site, weights_file) -> Pair:
    """Return a job of an installation whose fine-tunings train with two processes."""
    site = open_site(processes=2, checkpoint_seconds=0)
    job_id = submit_finetuning(site, weights_file)
    worker = site.worker()
    site.wait_until_running(job_id, epochs=1)
    leader = worker.jobs[0]
    (rank_1,) = rank_processes(leader)
    return Pair(site, job_id, leader, rank_1)


def test_two_processes_train_one_job(pair):
    """The job has one report with every epoch once, and both processes have ended afterwards."""
    job = pair.site.wait_until_ended(pair.job_id)
    assert (job.state, job.attempt, job.crashes) == (JobState.SUCCEEDED, 1, 0), pair.site.tell()
    assert pair.epochs() == list(range(1, EPOCHS + 1))
    assert pair.site.report(pair.job_id) is not None
    wait_until(pair.is_gone, within_seconds=5)


@pytest.mark.parametrize("victim", ["leader", pytest.param("rank_1", marks=pytest.mark.slow)])
def test_one_of_two_dies(pair, victim):
    """After `kill -9` of either process the other ends too, and the next attempt resumes from the checkpoint."""
    os.kill(getattr(pair, victim), signal.SIGKILL)
    wait_until(pair.is_gone, within_seconds=10, tell=pair.site.tell)
    job = pair.site.wait_until_ended(pair.job_id)
    assert (job.state, job.attempt, job.crashes) == (JobState.SUCCEEDED, 2, 1), pair.site.tell()
    assert pair.epochs() == list(range(1, EPOCHS + 1))


def test_cancelled_while_two_train(pair):
    """Cancellation ends both processes, and is no crash."""
    with pair.site.sessions.begin() as session:
        control.cancel(session, pair.job_id)
    job = pair.site.wait_until_ended(pair.job_id)
    assert (job.state, job.crashes) == (JobState.CANCELLED, 0), pair.site.tell()
    wait_until(pair.is_gone, within_seconds=15)
