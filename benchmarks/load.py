"""Measure the web service under load, on PostgreSQL and Redis: a full table, and many clients that poll, submit and upload.

    python -m benchmarks.load [--quick] [--jobs N] [--pollers N] [--seconds S] [--submissions N] [--clients N] [--megabytes N]

One process of the service and the load run on the same machine. Each poller requests one job with its ETag every second, and a
page of jobs every fifth second. One job in a hundred changes every second. Each client submits its next job as soon as the last
one is answered. Latencies are the clients'. At the end a worker runs an audit. The last line is JSON.
"""

import argparse
import json
import os
import platform
import random
import statistics
import struct
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx
from sqlalchemy import delete, insert, text, update

from jobs.states import JobKind, JobState
from jobs.tables import Job, JobEvent, new_id
from tests.job_steps import add_ready_model
from tests.servers import postgres_server, redis_server
from tests.service.processes import Site, SiteProcess, wait_until
from tests.service.small_jobs import LONG_AUDIT, submit_audit, untrained_weights

SPEC: dict[str, Any] = {"threat": {"norm": "linf", "epsilon": "8/255"}, "attacks": "pgd-20"}


def insert_jobs(site: Site, model: str, count: int) -> list[str]:
    """Insert that many jobs, most of which have ended, and return their ids."""
    states = [JobState.SUCCEEDED] * 8 + [JobState.FAILED, JobState.QUEUED]
    rows = [
        {
            "id": new_id("job"), "kind": JobKind.AUDIT, "owner": "local", "model_id": model, "spec": SPEC,
            "dataset": "fashion-mnist-subset", "state": states[number % len(states)], "payload_sha256": "",
        }
        for number in range(count)
    ]  # fmt: skip
    with site.sessions.begin() as session:
        session.execute(insert(Job), rows)
    return [row["id"] for row in rows]


def change_jobs(site: Site, jobs: list[str], stop: threading.Event) -> None:
    """Raise the version of one job in a hundred every second, until `stop` is set."""
    while not stop.wait(1):
        with site.sessions.begin() as session:
            some = random.sample(jobs, len(jobs) // 100)
            session.execute(update(Job).where(Job.id.in_(some)).values(version=Job.version + 1, done=0))


def poll(url: str, jobs: list[str], end: float) -> list[tuple[str, int, float]]:
    """Return request, status and seconds of each answer to one poller.

    Args:
        end: the time when polling ends, on the monotonic clock.
    """
    answers, etags = [], dict[str, str]()
    with httpx.Client(base_url=url, timeout=30) as client:
        time.sleep(random.random())
        job_id, second = random.choice(jobs), random.randrange(5)
        while time.monotonic() < end:
            start, second = time.monotonic(), second + 1
            for kind, path in [("poll", f"/jobs/{job_id}"), ("list", "/jobs?limit=20")][: 2 if second % 5 == 0 else 1]:
                request_start = time.monotonic()
                answer = client.get(path, headers={"If-None-Match": etags[path]} if path in etags else {})
                answers.append((kind, answer.status_code, time.monotonic() - request_start))
                if etag := answer.headers.get("ETag"):
                    etags[path] = etag
            time.sleep(max(start + 1 - time.monotonic(), 0))
    return answers


def submit(url: str, model: str, count: int, client_number: int) -> list[tuple[str, int, float]]:
    """Return request, status and seconds of each answer to one client, which submits jobs one after the other."""
    answers, body = [], {"model": model, "dataset": "fashion-mnist-subset", **SPEC}
    with httpx.Client(base_url=url, timeout=60) as client:
        for number in range(count):
            request_start = time.monotonic()
            answer = client.post("/jobs/audit", json=body, headers={"Idempotency-Key": f"{client_number}-{number}"})
            answers.append(("submit", answer.status_code, time.monotonic() - request_start))
    return answers


def read_peak_memory(process: SiteProcess) -> int:
    """Return the peak resident memory of the process in MiB."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1]) // 1024


def upload(client: httpx.Client, process: SiteProcess, megabytes: int) -> dict[str, Any]:
    """Return seconds and memory of an upload in parts whose connection breaks in the middle of every tenth part."""
    size, before, start = megabytes * 2**20, read_peak_memory(process), time.monotonic()
    header = json.dumps({"w": {"dtype": "U8", "shape": [size], "data_offsets": [0, size]}}).encode()
    head = struct.pack("<Q", len(header)) + header
    upload = client.post("/uploads", json={"size": len(head) + size}).json()
    count, part, cuts = -(-upload["size"] // upload["part_bytes"]), bytes(upload["part_bytes"]), 0

    def half(content: bytes) -> Iterator[bytes]:
        yield content[: len(content) // 2]
        raise ConnectionError("cut")

    while missing := set(range(count)) - {
        part_row["number"] for part_row in client.get(f"/uploads/{upload['id']}").json()["parts"]
    }:
        for number in sorted(missing):
            content = (head + part)[: len(part)] if number == 0 else part[: upload["size"] - number * len(part)]
            address = f"/uploads/{upload['id']}/parts/{number}"
            if number % 10 == 0 and number // 10 >= cuts:
                cuts += 1
                with suppress(ConnectionError):
                    client.put(address, content=half(content))
                break
            client.put(address, content=content, timeout=600).raise_for_status()
    fields = {"architecture": "small_resnet", "num_classes": "10", "upload": upload["id"]}
    answer = client.post("/models", files={name: (None, value) for name, value in fields.items()}, timeout=600)
    return {
        "megabytes": megabytes,
        "parts": count,
        "connections cut": cuts,
        "status": answer.status_code,
        "seconds": time.monotonic() - start,
        "most memory before, MiB": before,
        "and after, MiB": read_peak_memory(process),
    }


def measure_row_bytes(site: Site) -> dict[str, float]:
    """Return the bytes of a row with its indexes, by table."""
    with site.sessions.engine.execution_options(
        isolation_level="AUTOCOMMIT", postgresql_readonly=False
    ).connect() as admin:
        admin.execute(text("VACUUM FULL"))
    with site.sessions() as session:
        size = "SELECT pg_total_relation_size('{0}')::float / count(*) FROM {0}"
        return {table: session.scalar(text(size.format(table))) for table in ("jobs", "job_events")}


def measure_worker_queries(site: Site, folder: Path) -> dict[str, float]:
    """Return the transactions and connections a second of a worker that runs an audit, and of an idle one."""

    def measure_query_rates(seconds: float) -> dict[str, float]:
        snapshots = []
        for pause in (seconds, 0):
            with site.sessions() as session:
                names = "xact_commit + xact_rollback AS transactions, sessions AS connections"
                query = text(f"SELECT {names} FROM pg_stat_database WHERE datname = current_database()")
                snapshots.append(session.execute(query).mappings().one())
            time.sleep(pause)
        return {name: (snapshots[1][name] - snapshots[0][name]) / seconds for name in snapshots[0]}

    audit = submit_audit(site, untrained_weights(folder / "weights.safetensors"), **LONG_AUDIT)
    with site.sessions.begin() as session:
        session.execute(update(Job).where(Job.id == audit).values(priority=10))
        session.execute(delete(JobEvent).where(JobEvent.job_id != audit))
        session.execute(delete(Job).where(Job.state == JobState.QUEUED, Job.id != audit))
    site.worker()
    wait_until(lambda: (site.job(audit).stage or "").startswith("PGD"), 120, site.tell)
    running = measure_query_rates(5)
    site.wait_until_ended(audit)
    time.sleep(2)
    return {
        **{f"running, {name} a second": rate for name, rate in running.items()},
        **{f"idle, {name} a second": rate for name, rate in measure_query_rates(20).items()},
    }


def summarise(answers: list[tuple[str, int, float]]) -> dict[str, Any]:
    """Return the number of answers by status and their times in milliseconds, for each kind of request."""
    summaries = {}
    for kind in dict.fromkeys(kind for kind, *_ in answers):
        seconds = sorted(duration for name, _, duration in answers if name == kind)
        statuses = Counter(status for name, status, _ in answers if name == kind)
        summaries[kind] = {
            "answers": len(seconds),
            "statuses": {str(status): count for status, count in statuses.items()},
            "median_ms": 1000 * statistics.median(seconds),
            "p95_ms": 1000 * seconds[int(0.95 * len(seconds))],
            "most_ms": 1000 * seconds[-1],
        }
    return summaries


def main() -> None:
    """Print the measurements, then one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a tenth of everything")
    parser.add_argument("--jobs", type=int, default=10_000)
    parser.add_argument("--pollers", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--submissions", type=int, default=1000)
    parser.add_argument("--clients", type=int, default=20)
    parser.add_argument("--megabytes", type=int, default=1024)
    arguments = parser.parse_args()
    if arguments.quick:
        for name in ("jobs", "seconds", "submissions", "megabytes"):
            setattr(arguments, name, getattr(arguments, name) // 10)
    random.seed(0)
    with postgres_server() as postgres, redis_server() as broker, TemporaryDirectory() as folder:
        url = postgres.url(postgres.new_database())
        limits = {"quota_jobs": 0, "requests_per_minute": 0, "lease_seconds": 30, "sweep_seconds": 10}
        site = Site(Path(folder), database_url=url, broker_url=broker, **limits)
        model = add_ready_model(site.sessions, owner="local")
        jobs = insert_jobs(site, model, arguments.jobs)
        process, client = site.api()
        address, stop = str(client.base_url), threading.Event()
        changes = threading.Thread(target=change_jobs, args=(site, jobs, stop))
        changes.start()
        with ThreadPoolExecutor(arguments.pollers) as threads:
            end = time.monotonic() + arguments.seconds
            polls = [threads.submit(poll, address, jobs, end) for _ in range(arguments.pollers)]
            answers = [answer for each in polls for answer in each.result()]
        stop.set()
        changes.join()
        start, each = time.monotonic(), arguments.submissions // arguments.clients
        with ThreadPoolExecutor(arguments.clients) as threads:
            submissions = [threads.submit(submit, address, model, each, number) for number in range(arguments.clients)]
            answers += [answer for one in submissions for answer in one.result()]
        figures = {
            **summarise(answers),
            "submissions_a_second": arguments.clients * each / (time.monotonic() - start),
            "upload": upload(client, process, arguments.megabytes),
            "bytes a row": measure_row_bytes(site),
            "worker": measure_worker_queries(site, Path(folder)),
        }
        site.close()
    for name, value in figures.items():
        print(f"{name}: {value}")
    versions = {"python": platform.python_version(), "cores": os.cpu_count()}
    print(json.dumps({"benchmark": "load", **versions, "asked": vars(arguments), **figures}))


if __name__ == "__main__":
    main()
