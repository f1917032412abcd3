"""Two owners, one of whom floods the service: how long the other waits for a check and for a first job.

    python -m benchmarks.fair_shares [--quick] [--jobs N] [--uploads N]

PostgreSQL, Redis, one web service, one worker. Ann has thousands of short audits queued, with the highest priority that her key
allows, hundreds of uploads to be checked, 50 event streams and 30 uploads open. Bob uploads a model and a data set, and submits
one audit. Measured once while Ann has nothing, and once beside her flood. The last line is JSON.
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
from tests.service.processes import Site, until
from tests.service.small_jobs import AUDIT, SPEC, noise, store, untrained_weights

STREAMS, OPEN_UPLOADS = 50, 30  # as many as the service has places
PATIENCE_SECONDS = 600.0


def key_of(site: Site, owner: str) -> str:
    """Return a new key of that owner."""
    with site.sessions.begin() as session:
        scopes = [Scope.READ, Scope.SUBMIT]
        return issue(session, site_secret(site.settings), owner=owner, name="k", scopes=scopes, lifetime=None)[1]


def bobs_waits(site: Site, key: str, weights: bytes) -> dict[str, float]:
    """Return the seconds until Bob's model is ready, and from its submission until his audit begins."""
    with httpx.Client(base_url=f"http://127.0.0.1:{site.settings.port}", headers=bearer(key), timeout=60) as client:

        def wait(address: str, *states: str) -> float:
            begun = time.monotonic()
            until(lambda: client.get(address).json()["status"] in states, PATIENCE_SECONDS, site.tell)
            return time.monotonic() - begun

        dataset = client.post("/datasets", files={"file": noise()}).headers["Location"]
        wait(dataset, "ready")
        uploaded = client.post("/models", files={"file": weights}, data={"spec": SPEC.model_dump_json()})
        checked = wait(uploaded.headers["Location"], "ready")
        job = AUDIT | {"model": uploaded.json()["id"], "dataset": dataset.rsplit("/", 1)[1]}
        submitted = client.post("/jobs/audit", json=job)
        return {"checked": checked, "begun": wait(submitted.headers["Location"], "running", "succeeded")}


def bearer(key: str) -> dict[str, str]:
    """Return the header that a key is sent in."""
    return {"Authorization": f"Bearer {key}"}


def flood(site: Site, key: str, model: str, dataset: str, jobs: int, uploads: int, stack: ExitStack) -> None:
    """Let Ann have as many jobs, uploads and open connections as she likes."""
    row = {"kind": JobKind.AUDIT, "owner": "ann", "model_id": model, "dataset": dataset, "payload_sha256": ""}
    with site.sessions.begin() as session:
        session.execute(insert(Job), [{"id": new_id("job"), "spec": AUDIT, **row} for _ in range(jobs)])
    with httpx.Client(base_url=f"http://127.0.0.1:{site.settings.port}", headers=bearer(key), timeout=60) as client:
        for number in range(uploads):
            client.post("/datasets", files={"file": b"PK\x03\x04" + number.to_bytes(60)}).raise_for_status()
        last = client.get("/jobs").json()["data"][0]["id"]
    events = f"GET /jobs/{last}/events HTTP/1.1\r\nAccept: text/event-stream\r\n"
    upload = "POST /datasets HTTP/1.1\r\nContent-Length: 100000\r\nContent-Type: multipart/form-data; boundary=b\r\n"
    for head, count in ((events, STREAMS), (upload, OPEN_UPLOADS)):
        for _ in range(count):
            held = stack.enter_context(socket.create_connection(("127.0.0.1", site.settings.port)))
            held.sendall(f"{head}Host: 127.0.0.1\r\nAuthorization: Bearer {key}\r\n\r\n".encode())


def begun_by(site: Site, owner: str) -> int:
    """Return how many jobs of that owner were begun."""
    with site.sessions() as session:
        return session.scalar(select(func.count()).where(Job.owner == owner, Job.started_at.is_not(None))) or 0


def main() -> None:
    """Print what was measured, then one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a tenth of the flood")
    parser.add_argument("--jobs", type=int, default=10_000)
    parser.add_argument("--uploads", type=int, default=200)
    asked = parser.parse_args()
    jobs, uploads = (count // 10 if asked.quick else count for count in (asked.jobs, asked.uploads))
    with postgres_server() as postgres, redis_server() as broker, TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        unlimited = {"quota_jobs": 0, "requests_per_minute": 0}
        site = Site(folder, database_url=postgres.url(postgres.new_database()), broker_url=broker, **unlimited)
        stack.callback(site.close)
        weights = untrained_weights(folder / "untrained.safetensors").read_bytes()
        model, dataset = store(site, folder / "untrained.safetensors")
        ann, bob = key_of(site, "ann"), key_of(site, "bob")
        site.api()
        site.worker()
        quiet = bobs_waits(site, bob, weights)
        flood(site, ann, model, dataset, jobs, uploads, stack)
        until(lambda: begun_by(site, "ann") > 0, PATIENCE_SECONDS, site.tell)
        before = begun_by(site, "ann")
        beside = bobs_waits(site, bob, weights)
        figures: dict[str, Any] = {
            "quiet": quiet,
            "beside a flood": beside,
            "of hers meanwhile": begun_by(site, "ann") - before,
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
