"""Notifications to workers, with real brokers and real Celery workers."""

import socket
import subprocess
import threading
import time
from contextlib import AbstractContextManager
from pathlib import Path

import celery
import pytest
import redis

from jobs.queue import Queue, celery_app
from jobs.settings import Settings
from tests.servers import find_free_port, redis_server, run_python

SECONDS = 60
LISTEN = """
import sys, time
from jobs.queue import RUN_JOB, celery_app
from jobs.settings import Settings

app = celery_app(Settings(broker_url=sys.argv[1]))

@app.task(name=RUN_JOB)
def run_job(job_id):
    print(job_id, flush=True)
    time.sleep(float(sys.argv[2]))

alone = {"without_gossip": True, "without_mingle": True, "without_heartbeat": True}
app.Worker(pool="threads", concurrency=1, quiet=True, **alone).start()
"""


@pytest.fixture(params=["folder", "redis"])
def broker(request: pytest.FixtureRequest, tmp_path: Path) -> Settings:
    """Return settings with each kind of broker."""
    if request.param == "folder":
        return Settings(data_dir=tmp_path)
    return Settings(data_dir=tmp_path, broker_url=request.getfixturevalue("redis_url"))


def _listener(settings: Settings, task_seconds: float) -> AbstractContextManager[subprocess.Popen[str]]:
    """Return a worker that prints each received job id at once, and then works for a while."""
    return run_python(LISTEN, settings.broker_url, str(task_seconds))


def _waiting(settings: Settings) -> int:
    """Return the messages in the broker that no worker has taken."""
    with celery_app(settings).connection_for_read() as connection:
        return connection.default_channel._size("faal")


def _wait_until_taken(settings: Settings) -> None:
    deadline = time.monotonic() + SECONDS
    while _waiting(settings) and time.monotonic() < deadline:
        time.sleep(0.05)


def test_every_ring_is_heard_once(broker):
    """Each notification reaches one of two workers, once, also if it is older than the workers."""
    queue, job_ids = Queue(broker), [f"job_{number}" for number in range(20)]
    assert all(queue.ring(job_id) for job_id in job_ids[:10])
    with _listener(broker, 0) as one, _listener(broker, 0) as other:
        assert all(queue.ring(job_id) for job_id in job_ids[10:])
        _wait_until_taken(broker)
        time.sleep(1)
        for process in (one, other):
            process.terminate()
        words = [word for process in (one, other) for word in process.communicate(timeout=SECONDS)[0].split()]
    assert sorted(word for word in words if word.startswith("job_")) == sorted(job_ids)


def test_a_message_is_gone_when_its_task_begins(broker):
    """A worker that is killed in a task leaves no message: the jobs table alone decides which jobs run again."""
    with _listener(broker, SECONDS) as victim:
        Queue(broker).ring("job_1")
        assert victim.stdout.readline() == "job_1\n"
        time.sleep(0.5)
    assert _waiting(broker) == 0
    if broker.broker_url.startswith("redis"):
        with redis.Redis.from_url(broker.broker_url) as client:
            assert client.hlen("unacked") == 0  # what Redis would deliver again after an hour
    with _listener(broker, 0) as heir:
        Queue(broker).ring("job_2")
        assert heir.stdout.readline() == "job_2\n"


def test_threads_ring_together(broker):
    """One queue serves all threads of a process."""
    queue = Queue(broker)
    threads = [threading.Thread(target=queue.ring, args=(f"job_{number}",)) for number in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert _waiting(broker) == 20


def test_a_dead_broker_is_no_error(caplog):
    """Without a broker a notification returns False, is logged, and takes no more than a moment."""
    start = time.monotonic()
    assert Queue(Settings(broker_url=f"redis://127.0.0.1:{find_free_port()}/0")).ring("job_1") is False
    assert time.monotonic() - start < 5
    assert "job_1; an idle worker will find the job" in caplog.text


def test_a_silent_broker_does_not_hold_a_request():
    """A broker that accepts the connection and never answers costs a request a few seconds, no more."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        start = time.monotonic()
        assert Queue(Settings(broker_url=f"redis://127.0.0.1:{silent.getsockname()[1]}/0")).ring("job_1") is False
    assert time.monotonic() - start < 8


def test_a_broker_that_comes_back():
    """A queue that could not notify works again as soon as the broker is reachable, also after a restart of the broker."""
    port = find_free_port()
    queue = Queue(Settings(broker_url=f"redis://127.0.0.1:{port}/0"))
    assert not queue.ring("job_1")
    for _ in range(2):
        with redis_server(port):
            assert queue.ring("job_2")


def test_celerys_current_app_stays(broker):
    """A queue and a worker's app in one process do not change Celery's current app."""
    before = celery.current_app._get_current_object()
    celery_app(broker)
    Queue(broker)
    assert celery.current_app._get_current_object() is before
