"""Hundreds of faults by chance, on real servers: every job ends once, with the right result, and no outage counts as a crash.

    pytest -m slow tests/service/test_faults.py --log-cli-level=WARNING

`TEST_FAULTS` sets the number of faults (300), `TEST_SEED` the random seed (0). Only root can mount the disk that is made full.
"""

import hashlib
import json
import logging
import os
import random
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import func, select
from sqlalchemy.exc import DBAPIError

from jobs import queries
from jobs.clock import now
from jobs.settings import MAX_ATTEMPTS
from jobs.states import FINAL, JobKind, JobState
from jobs.tables import Job, JobEvent, Model
from tests.service.customer import Customer, CustomerJob
from tests.service.faults import Faulty, faulty_site
from tests.service.processes import Site
from tests.service.small_jobs import EPOCHS, timeless
from tests.webhook_receiver import Receiver, run_receiver

LEAST_JOBS = 50
BETWEEN_SECONDS = 2.5  # two faults, in the mean
END_SECONDS = 300.0


class Watch(threading.Thread):
    """Measures how long a job waits while a ready worker is idle and all servers run; `longest` is the longest wait."""

    def __init__(self, site: Site, faulty: Faulty) -> None:
        super().__init__(name="watch", daemon=True)
        self._site, self._faulty = site, faulty
        self._since: float | None = None
        self.longest, self.finish = 0.0, threading.Event()

    def run(self) -> None:
        """Watch until `finish` is set."""
        while not self.finish.wait(0.2):
            try:
                waits = self._a_job_waits_for_an_idle_worker()
            except DBAPIError:
                waits = False
            whole = self._faulty.whole_since
            if not waits or whole is None:
                self._since = None
                continue
            self._since = max(self._since or time.monotonic(), whole)
            self.longest = max(self.longest, time.monotonic() - self._since)

    def _a_job_waits_for_an_idle_worker(self) -> bool:
        with self._site.sessions() as session:
            waits_after_outage = Job.not_before.is_not(None) & (
                Job.not_before > now()
            )  # after an outage, for a time that grows
            statement = select(Job.state, Job.lease_owner).where(
                Job.state.in_([JobState.QUEUED, JobState.RUNNING]), ~waits_after_outage
            )
            rows = session.execute(statement).all()
        owners = [None if owner is None else int(owner.rsplit(":", 1)[1]) for _, owner in rows]
        ready = set(self._faulty.ready_since)
        return any(owner not in ready for owner in owners) and bool(ready - set(owners))


class Pulse(threading.Thread):
    """Requests `/healthz` repeatedly, and keeps the seconds of the answers; a killed web service gives none."""

    def __init__(self, site: Site) -> None:
        super().__init__(name="pulse", daemon=True)
        self._address = f"http://127.0.0.1:{site.settings.port}/healthz"
        self.seconds: list[float] = []
        self.finish = threading.Event()

    def run(self) -> None:
        """Send requests until `finish` is set."""
        while not self.finish.wait(0.1):
            start = time.monotonic()
            try:
                assert httpx.get(self._address, timeout=10).is_success
            except httpx.ReadTimeout:
                pass
            except httpx.TransportError:
                continue
            self.seconds.append(time.monotonic() - start)

    @property
    def p99(self) -> float:
        """Return the 99th percentile of the answers' seconds."""
        return sorted(self.seconds)[int(0.99 * len(self.seconds))]


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_hundreds_of_faults(tmp_path: Path, weights_file: Path) -> None:
    """Despite deaths, stops, freezes and wrong clocks, each job ends once, with the right result, and none waits for long."""
    seed, faults = (int(os.environ.get(f"TEST_{name}", default)) for name, default in [("SEED", 0), ("FAULTS", 300)])
    chance = random.Random(seed)
    with run_receiver() as receiver, faulty_site(tmp_path, chance, webhook_networks="127.0.0.1") as (site, faulty):
        customer, watch = Customer(site, weights_file, random.Random(seed + 1), receiver.url), Watch(site, faulty)
        pulse = Pulse(site)
        pulse.start()
        watch.start()
        customer.start()
        while customer.is_alive() and (
            faulty.injected.total() < faults or len(customer.jobs) < min(LEAST_JOBS, faults)
        ):
            due = time.monotonic() + chance.expovariate(1 / BETWEEN_SECONDS)
            while time.monotonic() < due:
                faulty.tend()
                time.sleep(0.1)
            faulty.inject()
        customer.enough.set()
        faulty.rest()
        _wait(lambda: not customer.is_alive() and _all_ended(site), faulty, site)
        watch.finish.set()
        pulse.finish.set()
        summary = f"{faulty.injected.total()} faults: {dict(faulty.injected)}; {len(customer.jobs)} jobs; "
        summary += f"longest wait {watch.longest:.1f} s; /healthz p99 {pulse.p99:.3f} s of {len(pulse.seconds)} answers"
        logging.getLogger(__name__).warning("seed %d: %s", seed, summary)
        assert customer.problems == []
        # A lost lease is taken back by a worker that has reached the database for the time of a lease, in its next sweep.
        assert watch.longest < site.settings.lease_seconds + 2 * site.settings.sweep_seconds
        assert pulse.p99 < 1
        _check(site, customer.jobs, faulty)
        _wait(
            lambda: _announced_ends(receiver) >= {(one.id, site.job(one.id).state) for one in customer.jobs},
            faulty,
            site,
        )
        assert len({end for end, _ in _announced_ends(receiver)}) == len(_announced_ends(receiver))


def _wait(holds: Callable[[], bool], faulty: Faulty, site: Site) -> None:
    deadline = time.monotonic() + END_SECONDS
    while not holds():
        assert time.monotonic() < deadline, site.tell()
        faulty.tend()
        time.sleep(0.2)


def _all_ended(site: Site) -> bool:
    with site.sessions() as session:
        return session.scalar(select(func.count()).where(Job.state.not_in(FINAL))) == 0


def _announced_ends(receiver: Receiver) -> set[tuple[str, str]]:
    """Return the jobs and ends that the webhook's receiver got."""
    ends = [json.loads(body)["data"] for _, body in receiver.requests]
    return {(end["id"], end["status"]) for end in ends}


def _excused(job: Job, faulty: Faulty) -> bool:
    """Return whether the job failed as it should: its processes died three times, or a file that it needed was damaged."""
    code = None if job.error is None else job.error["code"]
    if code == "worker-lost":
        return faulty.crashes[job.id] >= MAX_ATTEMPTS
    return code == "file-lost" and faulty.injected["stored file damaged"] > 0


def _check(site: Site, customer_jobs: list[CustomerJob], faulty: Faulty) -> None:
    """Check that every job is there once, with its whole history, and that no outage counted as a crash.

    Reports of equal jobs are equal.
    """
    with site.sessions() as session:
        ids = session.scalars(select(Job.id).where(Job.kind.in_([JobKind.AUDIT, JobKind.FINETUNE]))).all()
    assert sorted(ids) == sorted(one.id for one in customer_jobs)
    documents: dict[int, Any] = {}
    for one in customer_jobs:
        job = site.job(one.id)
        assert job.state in one.allowed_ends or _excused(job, faulty), (
            f"{one.id} {one.route} {one.wish}: {job.state} {job.error}"
        )
        with site.sessions() as session:
            events = list(queries.list_events(session, one.id, limit=10_000))
            results = session.scalars(select(Model).where(Model.parent_job_id == one.id)).all()
        assert job.crashes <= faulty.crashes[one.id], (
            f"{one.id}: {job.crashes} crashes of {faulty.crashes[one.id]}: "
            f"{[(event.created_at, event.kind, event.body) for event in events]}"
        )
        _check_history(job, events)
        has_succeeded = job.state is JobState.SUCCEEDED
        assert [model.id for model in results] == (
            [job.result_model_id] if has_succeeded and job.result_model_id else []
        )
        assert (job.result_model_id is not None) == (has_succeeded and job.kind is JobKind.FINETUNE)
        for model in results:
            assert model.sha256 is not None
            with site.storage.open(model.sha256) as content:
                assert hashlib.sha256(content.read()).hexdigest() == model.sha256
        if has_succeeded:
            report = timeless(site.report(one.id))
            assert documents.setdefault(id(one.body), report) == report
            if job.kind is JobKind.FINETUNE:
                assert {event.body["epoch"] for event in events if event.kind == "epoch"} == set(range(1, EPOCHS + 1))


def _check_history(job: Job, events: list[JobEvent]) -> None:
    """Check that attempts follow each other, each with its own epochs in order, and that nothing follows the one end."""
    assert [event.kind for event in events if event.kind in FINAL] == [job.state]
    assert events[-1].kind == job.state
    attempt, epoch, running = 0, 0, False
    for event in events:
        if event.kind == JobState.RUNNING:
            assert event.body["attempt"] == attempt + 1
            attempt, running, following = attempt + 1, True, False
        elif event.kind in set(JobState):
            assert event.body.get("attempt", attempt) == attempt
            running = False
        elif event.kind == "epoch":
            assert running, f"{job.id}: {event.kind} of nobody's"
            assert event.body["epoch"] == epoch + 1 if following else event.body["epoch"] <= epoch + 1
            epoch, following = event.body["epoch"], True
        else:
            assert running, f"{job.id}: {event.kind} of nobody's"
