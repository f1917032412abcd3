"""Hundreds of faults by chance, on real servers: every job ends once, rightly, is told, and nothing is lost or forgotten.

    pytest -m slow tests/service/test_faults.py --log-cli-level=WARNING

`TEST_FAULTS` says how many faults (200), `TEST_SEED` which (0).
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

import pytest
from sqlalchemy import func, select
from sqlalchemy.exc import DBAPIError

from jobs import queries
from jobs.states import FINAL, JobKind, JobState
from jobs.tables import Job, JobEvent, Model
from tests.service.customer import Asked, Customer
from tests.service.faults import Faulty, faulty_site
from tests.service.processes import Site
from tests.service.small_jobs import EPOCHS, timeless
from tests.webhook_receiver import Receiver, receiver

LEAST_JOBS = 50
BETWEEN_SECONDS = 2.5  # two faults, in the mean
END_SECONDS = 300.0


class Watch(threading.Thread):
    """Looks how long a job waits while a ready worker is idle and all servers are there; `longest` is the longest wait."""

    def __init__(self, site: Site, faulty: Faulty) -> None:
        super().__init__(name="watch", daemon=True)
        self._site, self._faulty = site, faulty
        self._since: float | None = None
        self.longest, self.over = 0.0, threading.Event()

    def run(self) -> None:
        """Until it is over."""
        while not self.over.wait(0.2):
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
            unfinished = select(Job.state, Job.lease_owner).where(Job.state.in_([JobState.QUEUED, JobState.RUNNING]))
            rows = session.execute(unfinished).all()
        owners = [None if owner is None else int(owner.rsplit(":", 1)[1]) for _, owner in rows]
        ready = set(self._faulty.ready_since)
        return any(owner not in ready for owner in owners) and bool(ready - set(owners))


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_hundreds_of_faults(tmp_path: Path, weights_file: Path) -> None:
    """Whatever dies, stops, freezes or has a wrong clock, jobs end as if nothing had happened, once, and none waits for long."""
    seed, faults = (int(os.environ.get(f"TEST_{name}", given)) for name, given in [("SEED", 0), ("FAULTS", 200)])
    chance = random.Random(seed)
    settings: dict[str, object] = {"max_attempts": 1000, "webhook_networks": "127.0.0.1"}
    with receiver() as told, faulty_site(tmp_path, chance, **settings) as (site, faulty):
        customer, watch = Customer(site, weights_file, random.Random(seed + 1), told.url), Watch(site, faulty)
        watch.start()
        customer.start()
        while customer.is_alive() and (
            faulty.injected.total() < faults or len(customer.asked) < min(LEAST_JOBS, faults)
        ):
            due = time.monotonic() + chance.expovariate(1 / BETWEEN_SECONDS)
            while time.monotonic() < due:
                faulty.tend()
                time.sleep(0.1)
            faulty.inject()
        customer.enough.set()
        faulty.rest()
        _wait(lambda: not customer.is_alive() and _all_ended(site), faulty, site)
        watch.over.set()
        summary = f"{dict(faulty.injected)}; {len(customer.asked)} jobs; longest wait {watch.longest:.1f} s"
        logging.getLogger(__name__).warning("seed %d: %s", seed, summary)
        assert customer.problems == []
        assert watch.longest < site.settings.sweep_seconds + site.settings.lease_seconds
        _check(site, customer.asked)
        _wait(lambda: _ends_told(told) >= {(one.id, site.job(one.id).state) for one in customer.asked}, faulty, site)
        assert len({end for end, _ in _ends_told(told)}) == len(_ends_told(told))


def _wait(holds: Callable[[], bool], faulty: Faulty, site: Site) -> None:
    deadline = time.monotonic() + END_SECONDS
    while not holds():
        assert time.monotonic() < deadline, site.tell()
        faulty.tend()
        time.sleep(0.2)


def _all_ended(site: Site) -> bool:
    with site.sessions() as session:
        return session.scalar(select(func.count()).where(Job.state.not_in(FINAL))) == 0


def _ends_told(told: Receiver) -> set[tuple[str, str]]:
    """The jobs whose end the webhook's receiver was told, with that end."""
    ends = [json.loads(body)["data"] for _, body in told.received]
    return {(end["id"], end["status"]) for end in ends}


def _check(site: Site, asked: list[Asked]) -> None:
    """Every job asked for is there once, with the history of one that lost nothing; reports of equal jobs are equal."""
    with site.sessions() as session:
        made = session.scalars(select(Job.id).where(Job.kind.in_([JobKind.AUDIT, JobKind.FINETUNE]))).all()
    assert sorted(made) == sorted(one.id for one in asked)
    documents: dict[int, Any] = {}
    for one in asked:
        job = site.job(one.id)
        assert job.state in one.allowed, f"{one.id} {one.route} {one.wish}: {job.state} {job.error}"
        with site.sessions() as session:
            events = list(queries.events(session, one.id, limit=10_000))
            results = session.scalars(select(Model).where(Model.parent_job_id == one.id)).all()
        _check_history(job, events)
        succeeded = job.state is JobState.SUCCEEDED
        assert [model.id for model in results] == ([job.result_model_id] if succeeded and job.result_model_id else [])
        assert (job.result_model_id is not None) == (succeeded and job.kind is JobKind.FINETUNE)
        for model in results:
            assert model.sha256 is not None
            with site.storage.open(model.sha256) as content:
                assert hashlib.sha256(content.read()).hexdigest() == model.sha256
        if succeeded:
            report = timeless(site.report(one.id))
            assert documents.setdefault(id(one.body), report) == report
            if job.kind is JobKind.FINETUNE:
                assert {event.body["epoch"] for event in events if event.kind == "epoch"} == set(range(1, EPOCHS + 1))


def _check_history(job: Job, events: list[JobEvent]) -> None:
    """One attempt after the other, each with its own epochs in order and none but its own; one end, and nothing after it."""
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
