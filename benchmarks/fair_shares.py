"""Measure how long one owner waits for a check and for a first job while another owner floods the service.

    python -m benchmarks.fair_shares [--quick] [--jobs N] [--uploads N]

The site has PostgreSQL, Redis, one web service and one worker. Ann queues thousands of short audits with the highest priority
that her key allows. She also has hundreds of uploads to be checked, 50 event streams and 30 open uploads. Bob uploads a model
and a data set, and submits one audit. The benchmark measures Bob once without Ann's flood, and once beside it. The last line
is JSON.
"""

import argparse
import json
import os
import platform
import socket
import time
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx
from sqlalchemy import func, insert, select

from jobs.keys import Scope, issue, site_secret
from jobs.states import JobKind, JobState
from jobs.tables import Job, new_id
from tests.servers import postgres_server, redis_server
from tests.service.processes import Site, wait_until
from tests.service.small_jobs import AUDIT, SPEC, noise, store, untrained_weights

STREAMS, OPEN_UPLOADS = 50, 30  # the service's limits
PATIENCE_SECONDS = 600.0


def create_key(site: Site, owner: str) -> str:
    """Return a new key of that owner."""
    with site.sessions.begin() as session:
        scopes = [Scope.READ, Scope.SUBMIT]
        return issue(session, site_secret(site.settings), owner=owner, name="k", scopes=scopes, lifetime=None)[1]


def measure_waits(site: Site, key: str, weights: bytes) -> dict[str, float]:
    """Return the seconds until Bob's model is ready, and from its submission until his audit starts."""
    with httpx.Client(
        base_url=f"http://127.0.0.1:{site.settings.port}", headers=make_authorization(key), timeout=60
    ) as client:

        def wait(address: str, *states: str) -> float:
            start = time.monotonic()
            wait_until(lambda: client.get(address).json()["status"] in states, PATIENCE_SECONDS, site.tell)
            return time.monotonic() - start

        dataset = client.post("/datasets", files={"file": noise()}).headers["Location"]
        wait(dataset, "ready")
        model = client.post("/models", files={"file": weights}, data={"spec": SPEC.model_dump_json()})
        check_seconds = wait(model.headers["Location"], "ready")
        job = AUDIT | {"model": model.json()["id"], "dataset": dataset.rsplit("/", 1)[1]}
        job_answer = client.post("/jobs/audit", json=job)
        return {"checked": check_seconds, "begun": wait(job_answer.headers["Location"], "running", "succeeded")}


def make_authorization(key: str) -> dict[str, str]:
    """Return the request header for a key."""
    return {"Authorization": f"Bearer {key}"}


def flood(site: Site, key: str, model: str, dataset: str, jobs: int, uploads: int, stack: ExitStack) -> None:
    """Give Ann queued jobs, uploads and open connections; `stack` closes the connections."""
    row = {"kind": JobKind.AUDIT, "owner": "ann", "model_id": model, "dataset": dataset, "payload_sha256": ""}
    with site.sessions.begin() as session:
        session.execute(insert(Job), [{"id": new_id("job"), "spec": AUDIT, **row} for _ in range(jobs)])
    with httpx.Client(
        base_url=f"http://127.0.0.1:{site.settings.port}", headers=make_authorization(key), timeout=60
    ) as client:
        for number in range(uploads):
            client.post("/datasets", files={"file": b"PK\x03\x04" + number.to_bytes(60)}).raise_for_status()
        job_id = client.get("/jobs").json()["data"][0]["id"]
    events = f"GET /jobs/{job_id}/events HTTP/1.1\r\nAccept: text/event-stream\r\n"
    upload = "POST /datasets HTTP/1.1\r\nContent-Length: 100000\r\nContent-Type: multipart/form-data; boundary=b\r\n"
    for head, count in ((events, STREAMS), (upload, OPEN_UPLOADS)):
        for _ in range(count):
            connection = stack.enter_context(socket.create_connection(("127.0.0.1", site.settings.port)))
            connection.sendall(f"{head}Host: 127.0.0.1\r\nAuthorization: Bearer {key}\r\n\r\n".encode())


def count_started(site: Site, owner: str) -> int:
    """Return how many jobs of that owner have started."""
    with site.sessions() as session:
        return session.scalar(select(func.count()).where(Job.owner == owner, Job.started_at.is_not(None))) or 0


def main() -> None:
    """Print the measurements, then one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a twentieth of the flood")
    parser.add_argument("--jobs", type=int, default=10_000)
    parser.add_argument("--uploads", type=int, default=200)
    arguments = parser.parse_args()
    jobs, uploads = (count // 20 if arguments.quick else count for count in (arguments.jobs, arguments.uploads))
    with postgres_server() as postgres, redis_server() as broker, TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        unlimited = {"quota_jobs": 0, "requests_per_minute": 0}
        site = Site(folder, database_url=postgres.url(postgres.new_database()), broker_url=broker, **unlimited)
        stack.callback(site.close)
        weights = untrained_weights(folder / "untrained.safetensors").read_bytes()
        model, dataset = store(site, folder / "untrained.safetensors")
        ann, bob = create_key(site, "ann"), create_key(site, "bob")
        site.api()
        site.worker()
        quiet = measure_waits(site, bob, weights)
        flood(site, ann, model, dataset, jobs, uploads, stack)
        wait_until(lambda: count_started(site, "ann") > 0, PATIENCE_SECONDS, site.tell)
        before = count_started(site, "ann")
        beside = measure_waits(site, bob, weights)
        figures: dict[str, Any] = {
            "quiet": quiet,
            "beside a flood": beside,
            "of hers meanwhile": count_started(site, "ann") - before,
        }
        with site.sessions() as session:
            waiting = select(func.count()).where(Job.owner == "ann", Job.state == JobState.QUEUED)
            figures["hers that still wait"] = session.scalar(waiting)
    for name, value in figures.items():
        print(f"{name}: {value}")
    versions = {"python": platform.python_version(), "cores": os.cpu_count()}
    print(json.dumps({"benchmark": "fair_shares", **versions, "jobs": jobs, "uploads": uploads, **figures}))


if __name__ == "__main__":
    main()
