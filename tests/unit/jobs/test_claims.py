"""A job has one owner, however many workers try to claim it."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from threading import Barrier

from jobs import lifecycle, queries
from jobs.database import open_database
from jobs.states import JobState
from tests.job_steps import queue_audit
from tests.servers import run_python

CLAIM_ALL = """
import sys
from pathlib import Path
from jobs import lifecycle
from jobs.database import open_database

url, go, worker, *job_ids = sys.argv[1:]
sessions = open_database(url, pooled=False)
while not Path(go).exists():
    pass
for job_id in job_ids:
    with sessions.begin() as session:
        if lifecycle.claim(session, job_id, worker=worker, lease_seconds=60) is not None:
            print(job_id)
"""


def test_one_thread_gets_the_job(database_url, sessions, job_id):
    """Of eight threads that claim one job at the same moment, exactly one gets it, under attempt 1."""
    gate = Barrier(8)

    def claim(number: int) -> int | None:
        own = open_database(database_url, pooled=False)
        gate.wait()
        with own.begin() as session:
            job = lifecycle.claim(session, job_id, worker=f"w{number}", lease_seconds=60)
        return None if job is None else job.attempt

    with ThreadPoolExecutor(8) as threads:
        attempts = list(threads.map(claim, range(8)))
    assert sorted(attempts, key=str) == [1, *[None] * 7]


def test_processes_share_the_jobs(database_url, sessions, model_id, tmp_path):
    """Three processes that claim the same twenty jobs get each job once, and all of them together."""
    job_ids, go = [queue_audit(sessions, model_id) for _ in range(20)], tmp_path / "go"
    with ExitStack() as stack:
        arguments = [(database_url, str(go), f"w{number}", *job_ids) for number in range(3)]
        processes = [stack.enter_context(run_python(CLAIM_ALL, *each)) for each in arguments]
        go.touch()
        claims = [line for process in processes for line in process.communicate(timeout=120)[0].split()]
    assert [process.returncode for process in processes] == [0, 0, 0]
    assert sorted(claims) == job_ids


def test_one_sweep_takes_a_job_back(database_url, sessions, job_id):
    """Of six simultaneous sweeps, one requeues a lost job, so it counts one crash."""
    with sessions.begin() as session:
        lifecycle.claim(session, job_id, worker="dead", lease_seconds=-1)
    gate = Barrier(6)

    def run_sweep(_: int) -> list[str]:
        own = open_database(database_url, pooled=False)
        gate.wait()
        with own.begin() as session:
            return lifecycle.take_back(session)

    with ThreadPoolExecutor(6) as threads:
        sweeps = [jobs for jobs in threads.map(run_sweep, range(6)) if jobs]
    assert sweeps == [[job_id]]
    with sessions() as session:
        job = queries.find_job(session, job_id)
    assert (job.state, job.crashes) == (JobState.QUEUED, 1)


def test_events_of_concurrent_writers(database_url, sessions, job_id):
    """Events that a worker and clients cause at the same time are all kept, each with a number of its own."""
    with sessions.begin() as session:
        lifecycle.claim(session, job_id, worker="w", lease_seconds=60)

    def record(number: int) -> None:
        own = open_database(database_url, pooled=False)
        for step in range(10):
            with own.begin() as session:
                lifecycle.record_progress(session, job_id, 1, event=("step", {"of": number, "step": step}))

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(record, range(4)))
    with sessions() as session:
        events = queries.list_events(session, job_id)
        assert queries.find_job(session, job_id).version == 42
    assert [event.seq for event in events] == list(range(1, 43))
    for number in range(4):
        assert [event.body["step"] for event in events if event.body.get("of") == number] == list(range(10))
