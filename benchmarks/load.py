"""The web service under load, on PostgreSQL and Redis: many jobs in the table, many who poll, submit and upload.

    python -m benchmarks.load [--quick] [--jobs N] [--pollers N] [--seconds S] [--submissions N] [--clients N] [--megabytes N]

One process of the service, with load from the same machine. Pollers ask for one job each, with its ETag, once a second, and
for a page of jobs every fifth; a hundredth of the jobs changes meanwhile every second. Clients submit one after the other as
fast as they are answered. Latencies as clients see them. At the end a worker runs an audit. The last line is JSON.
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
from tests.registered import ready_model
from tests.servers import postgres_server, redis_server
from tests.service.processes import Running, Site, until
from tests.service.small_jobs import LONG_AUDIT, submit_audit, untrained_weights

SPEC: dict[str, Any] = {"threat": {"norm": "linf", "epsilon": "8/255"}, "attacks": "pgd-20"}


def fill(site: Site, model: str, count: int) -> list[str]:
    """Ids of so many jobs, most of which have ended."""
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


def change_some(site: Site, jobs: list[str], ended: threading.Event) -> None:
    """A hundredth of the jobs has another version, every second."""
    while not ended.wait(1):
        with site.sessions.begin() as session:
            some = random.sample(jobs, len(jobs) // 100)
            session.execute(update(Job).where(Job.id.in_(some)).values(version=Job.version + 1, done=0))


def poll(url: str, jobs: list[str], until: float) -> list[tuple[str, int, float]]:
    """What was asked for, status and seconds of each answer that one poller got."""
    answers, etags = [], dict[str, str]()
    with httpx.Client(base_url=url, timeout=30) as client:
        time.sleep(random.random())
        watched, second = random.choice(jobs), random.randrange(5)
        while time.monotonic() < until:
            begun, second = time.monotonic(), second + 1
            for what, path in [("poll", f"/jobs/{watched}"), ("list", "/jobs?limit=20")][: 2 if second % 5 == 0 else 1]:
                asked = time.monotonic()
                answer = client.get(path, headers={"If-None-Match": etags[path]} if path in etags else {})
                answers.append((what, answer.status_code, time.monotonic() - asked))
                if etag := answer.headers.get("ETag"):
                    etags[path] = etag
            time.sleep(max(begun + 1 - time.monotonic(), 0))
    return answers


def submit(url: str, model: str, count: int, client_number: int) -> list[tuple[str, int, float]]:
    """Likewise, of one client that submits jobs one after the other."""
    answers, body = [], {"model": model, "dataset": "fashion-mnist-subset", **SPEC}
    with httpx.Client(base_url=url, timeout=60) as client:
        for number in range(count):
            asked = time.monotonic()
            answer = client.post("/jobs/audit", json=body, headers={"Idempotency-Key": f"{client_number}-{number}"})
            answers.append(("submit", answer.status_code, time.monotonic() - asked))
    return answers


def most_memory(process: Running) -> int:
    """The most that the process has had in memory, in MiB."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1]) // 1024


def upload(client: httpx.Client, process: Running, megabytes: int) -> dict[str, Any]:
    """Seconds and memory that an upload in parts takes whose connection breaks in the middle of every tenth part."""
    size, before, begun = megabytes * 2**20, most_memory(process), time.monotonic()
    header = json.dumps({"w": {"dtype": "U8", "shape": [size], "data_offsets": [0, size]}}).encode()
    head = struct.pack("<Q", len(header)) + header
    upload = client.post("/uploads", json={"size": len(head) + size}).json()
    count, part, cut = -(-upload["size"] // upload["part_bytes"]), bytes(upload["part_bytes"]), 0

    def half(content: bytes) -> Iterator[bytes]:
        yield content[: len(content) // 2]
        raise ConnectionError("cut")

    while missing := set(range(count)) - {
        there["number"] for there in client.get(f"/uploads/{upload['id']}").json()["parts"]
    }:
        for number in sorted(missing):
            content = (head + part)[: len(part)] if number == 0 else part[: upload["size"] - number * len(part)]
            address = f"/uploads/{upload['id']}/parts/{number}"
            if number % 10 == 0 and number // 10 >= cut:
                cut += 1
                with suppress(ConnectionError):
                    client.put(address, content=half(content))
                break
            client.put(address, content=content, timeout=600).raise_for_status()
    fields = {"architecture": "small_resnet", "num_classes": "10", "upload": upload["id"]}
    answer = client.post("/models", files={name: (None, value) for name, value in fields.items()}, timeout=600)
    return {
        "megabytes": megabytes,
        "parts": count,
        "connections cut": cut,
        "status": answer.status_code,
        "seconds": time.monotonic() - begun,
        "most memory before, MiB": before,
        "and after, MiB": most_memory(process),
    }


def rows_take(site: Site) -> dict[str, float]:
    """Bytes that a row takes with its indexes, by table."""
    with site.sessions.engine.execution_options(
        isolation_level="AUTOCOMMIT", postgresql_readonly=False
    ).connect() as admin:
        admin.execute(text("VACUUM FULL"))
    with site.sessions() as session:
        size = "SELECT pg_total_relation_size('{0}')::float / count(*) FROM {0}"
        return {table: session.scalar(text(size.format(table))) for table in ("jobs", "job_events")}


def worker_asks(site: Site, folder: Path) -> dict[str, float]:
    """What a worker that runs an audit asks of the database a second, and what an idle one does."""

    def counted(seconds: float) -> dict[str, float]:
        found = []
        for pause in (seconds, 0):
            with site.sessions() as session:
                names = "xact_commit + xact_rollback AS transactions, sessions AS connections"
                asked = text(f"SELECT {names} FROM pg_stat_database WHERE datname = current_database()")
                found.append(session.execute(asked).mappings().one())
            time.sleep(pause)
        return {name: (found[1][name] - found[0][name]) / seconds for name in found[0]}

    audit = submit_audit(site, untrained_weights(folder / "weights.safetensors"), **LONG_AUDIT)
    with site.sessions.begin() as session:
        session.execute(update(Job).where(Job.id == audit).values(priority=10))
        session.execute(delete(JobEvent).where(JobEvent.job_id != audit))
        session.execute(delete(Job).where(Job.state == JobState.QUEUED, Job.id != audit))
    site.worker()
    until(lambda: (site.job(audit).stage or "").startswith("PGD"), 120, site.tell)
    running = counted(5)
    site.ended(audit)
    time.sleep(2)
    return {
        **{f"running, {name} a second": rate for name, rate in running.items()},
        **{f"idle, {name} a second": rate for name, rate in counted(20).items()},
    }


def summary(answers: list[tuple[str, int, float]]) -> dict[str, Any]:
    """Of each thing that was asked for: how many answers of which status, and how long they took, in milliseconds."""
    found = {}
    for what in dict.fromkeys(what for what, *_ in answers):
        seconds = sorted(took for asked, _, took in answers if asked == what)
        statuses = Counter(status for asked, status, _ in answers if asked == what)
        found[what] = {
            "answers": len(seconds),
            "statuses": {str(status): count for status, count in statuses.items()},
            "median_ms": 1000 * statistics.median(seconds),
            "p95_ms": 1000 * seconds[int(0.95 * len(seconds))],
            "most_ms": 1000 * seconds[-1],
        }
    return found


def main() -> None:
    """Prints what was measured, then one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a tenth of everything")
    parser.add_argument("--jobs", type=int, default=10_000)
    parser.add_argument("--pollers", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--submissions", type=int, default=1000)
    parser.add_argument("--clients", type=int, default=20)
    parser.add_argument("--megabytes", type=int, default=1024)
    asked = parser.parse_args()
    if asked.quick:
        for name in ("jobs", "seconds", "submissions", "megabytes"):
            setattr(asked, name, getattr(asked, name) // 10)
    random.seed(0)
    with postgres_server() as postgres, redis_server() as broker, TemporaryDirectory() as folder:
        url = postgres.url(postgres.new_database())
        free = {"quota_jobs": 0, "requests_per_minute": 0, "lease_seconds": 30, "sweep_seconds": 10}
        site = Site(Path(folder), database_url=url, broker_url=broker, **free)
        model = ready_model(site.sessions, owner="local")
        jobs = fill(site, model, asked.jobs)
        process, client = site.api()
        address, ended = str(client.base_url), threading.Event()
        changes = threading.Thread(target=change_some, args=(site, jobs, ended))
        changes.start()
        with ThreadPoolExecutor(asked.pollers) as threads:
            end = time.monotonic() + asked.seconds
            polled = [threads.submit(poll, address, jobs, end) for _ in range(asked.pollers)]
            answers = [answer for each in polled for answer in each.result()]
        ended.set()
        changes.join()
        begun, each = time.monotonic(), asked.submissions // asked.clients
        with ThreadPoolExecutor(asked.clients) as threads:
            told = [threads.submit(submit, address, model, each, number) for number in range(asked.clients)]
            answers += [answer for one in told for answer in one.result()]
        figures = {
            **summary(answers),
            "submissions_a_second": asked.clients * each / (time.monotonic() - begun),
            "upload": upload(client, process, asked.megabytes),
            "bytes a row": rows_take(site),
            "worker": worker_asks(site, Path(folder)),
        }
        site.close()
    for name, value in figures.items():
        print(f"{name}: {value}")
    versions = {"python": platform.python_version(), "cores": os.cpu_count()}
    print(json.dumps({"benchmark": "load", **versions, "asked": vars(asked), **figures}))


if __name__ == "__main__":
    main()
