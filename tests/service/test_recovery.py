"""A job ends once, with the result of a run without faults, whichever process dies."""

import json
import os
import signal
import time
from pathlib import Path

import pytest

from jobs import control, lifecycle
from jobs.errors import LeaseLost
from jobs.states import JobState
from tests.servers import find_free_port, redis_server
from tests.service.processes import files_first, is_gone, servers_first, wait_until
from tests.service.small_jobs import CLEAN_UNITS, EPOCHS, LONG_AUDIT, submit_audit, submit_finetuning, timeless


def epoch_numbers(site, job_id: str) -> list[int]:
    """Return the numbers of the computed epochs, in the order of their events."""
    return [event.body["epoch"] for event in site.events(job_id, "epoch")]


@pytest.fixture
def finetuning(site, weights_file) -> str:
    """Return the id of a waiting fine-tuning."""
    return submit_finetuning(site, weights_file)


@files_first
def test_killed_job_process(site, finetuning, faultless_report):
    """After `kill -9` of the job's process the job resumes from its last epoch and gives the report of an uninterrupted run."""
    worker = site.worker()
    site.wait_until_running(finetuning, epochs=1)
    os.kill(worker.jobs[0], signal.SIGKILL)
    job = site.wait_until_ended(finetuning)
    assert (job.state, job.attempt, job.crashes) == (JobState.SUCCEEDED, 2, 1)
    assert timeless(site.report(finetuning)) == faultless_report
    assert epoch_numbers(site, finetuning) == list(range(1, EPOCHS + 1))


def whole_lines(ledger: Path) -> list[str]:
    """Return the lines of a ledger that are complete."""
    lines = ledger.read_text().splitlines(keepends=True) if ledger.exists() else []
    return [line for line in lines if line.endswith("\n")]


def test_killed_audit_goes_on_from_its_ledger(open_site, weights_file):
    """After `kill -9` midway an audit repeats no finished batch, and gives the report of an uninterrupted run."""
    site = open_site()
    worker = site.worker()
    faultless_report = submit_audit(site, weights_file, **LONG_AUDIT)
    site.queue.ring(faultless_report)
    assert site.wait_until_ended(faultless_report).state is JobState.SUCCEEDED, site.tell()
    audit = submit_audit(site, weights_file, **LONG_AUDIT)
    site.queue.ring(audit)
    ledger = site.settings.checkpoints_dir / audit / "audit.ledger"
    wait_until(lambda: len(whole_lines(ledger)) > 1 + CLEAN_UNITS + 5, within_seconds=60, tell=site.tell)
    os.kill(worker.jobs[0], signal.SIGKILL)
    wait_until(lambda: site.job(audit).crashes == 1, within_seconds=20, tell=site.tell)
    before = whole_lines(ledger)
    with ledger.open() as ledger_file:  # its folder goes when the job has ended
        job = site.wait_until_ended(audit)
        lines = ledger_file.readlines()
    assert (job.state, job.attempt, job.seconds_left) == (JobState.SUCCEEDED, 2, None)
    assert lines[: len(before)] == before
    units = [(unit["attack"], unit["run"], *unit["rows"]) for unit in map(json.loads, lines[1:])]
    assert len(units) == len(set(units)) > len(before)
    assert timeless(site.report(audit)) == timeless(site.report(faultless_report))
    assert [json.loads(site.report(one))["resumed"] for one in (faultless_report, audit)] == [False, True]


@servers_first
def test_killed_worker(site, finetuning, faultless_report):
    """After `kill -9` of the worker its job's process ends too, and another worker resumes from the last epoch."""
    worker = site.worker()
    site.wait_until_running(finetuning, epochs=1)
    computing = worker.jobs
    assert computing
    worker.kill()
    wait_until(lambda: all(map(is_gone, computing)), within_seconds=5)
    assert site.job(finetuning).state is JobState.RUNNING
    site.worker()
    job = site.wait_until_ended(finetuning)
    assert (job.state, job.attempt, job.crashes) == (JobState.SUCCEEDED, 2, 1)
    assert timeless(site.report(finetuning)) == faultless_report
    assert epoch_numbers(site, finetuning) == list(range(1, EPOCHS + 1))


@servers_first
def test_paused_job(site, weights_file, finetuning, faultless_report):
    """A job that is paused midway frees its worker, and once resumed gives the report of an uninterrupted run; it is no crash."""
    site.worker()
    site.wait_until_running(finetuning, epochs=1)
    with site.sessions.begin() as session:
        control.pause(session, finetuning)
    wait_until(lambda: site.job(finetuning).state is JobState.PAUSED, within_seconds=20, tell=site.tell)
    other = submit_audit(site, weights_file)
    site.queue.ring(other)
    assert site.wait_until_ended(other).state is JobState.SUCCEEDED, site.tell()
    assert site.job(finetuning).state is JobState.PAUSED
    with site.sessions.begin() as session:
        control.resume(session, finetuning)
    site.queue.ring(finetuning)
    job = site.wait_until_ended(finetuning)
    assert (job.state, job.attempt, job.crashes) == (JobState.SUCCEEDED, 2, 0)
    assert timeless(site.report(finetuning)) == faultless_report
    assert epoch_numbers(site, finetuning) == list(range(1, EPOCHS + 1))


def test_stopped_worker(served_site, weights_file, faultless_report):
    """A worker that gets the signal to stop gives its job back at once; this is no crash, and another worker resumes it."""
    site, finetuning = served_site, submit_finetuning(served_site, weights_file)
    worker = site.worker()
    site.wait_until_running(finetuning, epochs=1)
    assert worker.stop(within_seconds=site.settings.grace_seconds + 5) == 0
    job = site.job(finetuning)
    assert (job.state, job.attempt, job.crashes) == (JobState.QUEUED, 1, 0)
    site.worker()
    assert site.wait_until_ended(finetuning).state is JobState.SUCCEEDED
    assert timeless(site.report(finetuning)) == faultless_report
    assert epoch_numbers(site, finetuning) == list(range(1, EPOCHS + 1))


@pytest.mark.parametrize("signal_number", [signal.SIGINT, signal.SIGQUIT])
def test_interrupted_worker(open_site, weights_file, signal_number):
    """Ctrl-C and SIGQUIT stop a worker as SIGTERM does: its job is given back, and this is no crash."""
    site = open_site()
    worker, job_id = site.worker(), submit_finetuning(site, weights_file)
    site.wait_until_running(job_id)
    assert worker.stop(within_seconds=site.settings.grace_seconds + 5, signal_number=signal_number) == 0
    job = site.job(job_id)
    assert (job.state, job.crashes) == (JobState.QUEUED, 0)


def test_folder_of_an_ended_job_goes(open_site, weights_file):
    """The folder that a job keeps for its next attempt is deleted soon after the job has ended."""
    site = open_site()
    site.worker()
    job_id = submit_audit(site, weights_file)
    folder = site.settings.checkpoints_dir / job_id
    wait_until(folder.exists, within_seconds=60, tell=site.tell)
    site.wait_until_ended(job_id)
    wait_until(lambda: not folder.exists(), within_seconds=10, tell=site.tell)


def test_job_that_kills_its_process_fails(open_site, weights_file):
    """A job whose process dies too often fails with a reason."""
    site = open_site(max_attempts=1)
    worker, job_id = site.worker(), submit_finetuning(site, weights_file)
    site.wait_until_running(job_id)
    os.kill(worker.jobs[0], signal.SIGKILL)
    job = site.wait_until_ended(job_id)
    assert (job.state, job.error["code"]) == (JobState.FAILED, "worker-lost")


def test_lost_lease_ends_the_process(served_site, weights_file):
    """The process of an attempt that lost its lease is stopped and changes nothing any more."""
    site, finetuning = served_site, submit_finetuning(served_site, weights_file)
    worker = site.worker()
    site.wait_until_running(finetuning, epochs=1)
    computing = worker.jobs
    with site.sessions.begin() as session:
        lifecycle.release(session, finetuning, 1, reason="worker-stopped")
        assert lifecycle.claim(session, finetuning, worker="another:1", lease_seconds=60).attempt == 2
    wait_until(lambda: all(map(is_gone, computing)), within_seconds=15, tell=site.tell)
    job = site.job(finetuning)
    assert (job.state, job.attempt, job.lease_owner) == (JobState.RUNNING, 2, "another:1")
    with site.sessions.begin() as session, pytest.raises(LeaseLost):
        lifecycle.fail(session, finetuning, 1, code="internal-error", message="too late")


def test_killed_web_service(open_site, weights_file, faultless_report):
    """After `kill -9` of the web service the job keeps running, and the next web service has its report."""
    site = open_site()
    api, _ = site.api()
    worker, job_id = site.worker(), submit_finetuning(site, weights_file)
    site.wait_until_running(job_id)
    api.kill()
    assert worker.running
    assert site.wait_until_ended(job_id).state is JobState.SUCCEEDED
    _, client = site.api()
    answer = client.get(f"/jobs/{job_id}/report", headers={"Accept": "application/json"})
    assert answer.status_code == 200
    assert timeless(answer.text) == faultless_report


def test_doubled_messages(site, weights_file):
    """A job with several messages is run once."""
    job_id = submit_audit(site, weights_file)
    for _ in range(5):
        site.queue.ring(job_id)
    worker = site.worker()
    job = site.wait_until_ended(job_id)
    wait_until(lambda: worker.log.read_text().count("no job waits") >= 4, within_seconds=30, tell=site.tell)
    assert (job.state, job.attempt) == (JobState.SUCCEEDED, 1)
    assert len(site.events(job_id, "running")) == 1


def test_broker_that_was_away(open_site, weights_file):
    """A job submitted while Redis is down runs before Redis returns, in the next sweep of the worker that lost its broker."""
    port = find_free_port()
    site = open_site(broker_url=f"redis://127.0.0.1:{port}/0")
    with redis_server(port):
        worker = site.worker()
        wait_until(lambda: "ready" in worker.log.read_text(), within_seconds=60, tell=site.tell)
    job_id = submit_audit(site, weights_file)
    start = time.monotonic()
    assert not site.queue.ring(job_id)
    assert time.monotonic() - start < 10
    assert site.wait_until_ended(job_id).state is JobState.SUCCEEDED
    rung = submit_audit(site, weights_file)
    with redis_server(port):
        assert site.queue.ring(rung)
        assert site.wait_until_ended(rung).state is JobState.SUCCEEDED
        assert worker.running


def test_broker_that_goes_while_a_job_runs(open_site, weights_file):
    """A running job needs no broker, and its worker takes the next one when the broker is back."""
    port = find_free_port()
    site = open_site(broker_url=f"redis://127.0.0.1:{port}/0")
    first = submit_finetuning(site, weights_file)
    with redis_server(port):
        site.worker()
        site.wait_until_running(first, epochs=1)
    job = site.wait_until_ended(first)
    assert (job.state, job.attempt) == (JobState.SUCCEEDED, 1)
    second = submit_audit(site, weights_file)
    with redis_server(port):
        assert site.wait_until_ended(second).state is JobState.SUCCEEDED


def test_broker_that_is_not_there_yet(open_site, weights_file):
    """A worker may be started, and stopped, before its broker."""
    port = find_free_port()
    site = open_site(broker_url=f"redis://127.0.0.1:{port}/0")
    early = site.worker()
    wait_until(lambda: "Cannot connect" in early.log.read_text(), within_seconds=60, tell=site.tell)
    assert early.stop() == 0
    site.worker()
    job_id = submit_audit(site, weights_file)
    with redis_server(port):
        assert site.wait_until_ended(job_id).state is JobState.SUCCEEDED
