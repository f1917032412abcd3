"""The service while a server that it depends on runs but does not answer."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx
import redis

from jobs.states import JobState
from tests.servers import postgres_folder, postgres_in, redis_server
from tests.service.processes import Site, SiteProcess, wait_until
from tests.service.small_jobs import submit_audit

ANSWERS_SECONDS = 20.0  # the limits on a connection and on a statement, and a busy machine


@contextmanager
def freeze(pid: int) -> Iterator[None]:
    """Freeze that process and its children for the block."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    pids = [pid, *map(int, children)]
    for each in pids:
        os.kill(each, signal.SIGSTOP)
    try:
        yield
    finally:
        for each in pids:
            os.kill(each, signal.SIGCONT)


def test_a_frozen_database_takes_nothing_but_itself_away(open_site: Callable[..., Site]) -> None:
    """While PostgreSQL accepts connections without answering, requests get 503 in time, health answers, and SIGTERM ends all."""
    with postgres_folder() as folder, postgres_in(folder) as postgres:
        site = open_site(database_url=postgres.url(postgres.new_database()))
        process, client = site.api()
        assert client.get("/jobs").is_success
        with ThreadPoolExecutor(40) as threads, freeze(postgres.process.pid):
            start = time.monotonic()
            waiting = [threads.submit(httpx.get, f"{client.base_url}/jobs", timeout=60) for _ in range(40)]
            time.sleep(1)
            request_start = time.monotonic()
            assert httpx.get(f"{client.base_url}/healthz", timeout=5).is_success
            assert time.monotonic() - request_start < 1
            unready = httpx.get(f"{client.base_url}/readyz", timeout=10)
            assert (unready.status_code, unready.json()["errors"][0]["parameter"]) == (503, "database")
            answers = [answer.result() for answer in waiting]
            assert {(answer.status_code, answer.json()["code"]) for answer in answers} == {
                (503, "database-unavailable")
            }
            assert time.monotonic() - start < ANSWERS_SECONDS
            assert process.stop(within_seconds=ANSWERS_SECONDS) == 0


def test_a_full_broker_ends_no_worker(open_site: Callable[..., Site], weights_file: Path) -> None:
    """While Redis has no memory and refuses writes, a worker still runs jobs, and it listens again afterwards."""
    with redis_server() as url, redis.Redis.from_url(url) as server:
        site = open_site(broker_url=url)
        worker = site.worker()
        _, client = site.api()
        wait_until(lambda: "ready" in worker.log.read_text(), 60, site.tell)
        first = submit_audit(site, weights_file)
        with freeze(worker.pid):  # so that Redis is full when the worker takes the message
            assert site.queue.ring(first)
            server.config_set("maxmemory", "1mb")
        assert client.get("/readyz").json()["errors"][0]["parameter"] == "broker"
        assert site.wait_until_ended(first).state is JobState.SUCCEEDED
        server.config_set("maxmemory", "0")
        wait_until(lambda: listens_again(worker), 30, site.tell)
        assert client.get("/readyz").is_success
        second = submit_audit(site, weights_file)
        assert site.queue.ring(second)
        assert site.wait_until_ended(second).state is JobState.SUCCEEDED
        assert worker.running
        site.close()  # before its broker goes


def listens_again(worker: SiteProcess) -> bool:
    """Return whether the broker's answer ended the worker's Celery, and Celery is ready again."""
    _, error, after = worker.log.read_text().partition("the broker answered with an error")
    return bool(error) and " ready." in after
