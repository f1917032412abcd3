"""A customer of a failing site: repeats each request until it is answered, and knows which ends each job may have."""

import random
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx

from jobs.states import FINAL, JobState
from tests.service.processes import Site
from tests.service.small_jobs import AUDIT, EPOCHS, FINETUNING, LONG_AUDIT, store

IN_FLIGHT = 6
TRY_AGAIN_SECONDS = 0.2
_DIVERGING = {**FINETUNING, "training": {"learning_rates": [10] * EPOCHS, "momentum": 0.999, "weight_decay": 1}}


class CustomerJob:
    """A job that the customer has submitted.

    Attributes:
        wish: "pause" (the job is resumed later), "cancel", or empty.
        cancelled: whether the service accepted the cancellation.
    """

    def __init__(self, number: int) -> None:
        bodies: list[tuple[str, Mapping[str, Any], str]] = [
            ("/jobs/finetune", FINETUNING, ""),
            ("/jobs/audit", AUDIT, ""),
            ("/jobs/audit", LONG_AUDIT, "cancel"),
            ("/jobs/finetune", FINETUNING, "pause"),
            ("/jobs/audit", LONG_AUDIT, ""),
            ("/jobs/finetune", _DIVERGING, ""),
        ]
        self.key = f"job-{number}"
        self.route, self.body, self.wish = bodies[number % len(bodies)]
        self.id = ""
        self.cancelled = False

    @property
    def allowed_ends(self) -> set[JobState]:
        """Return the states in which the job may end."""
        if self.cancelled:
            return {JobState.CANCELLED}
        return {JobState.FAILED if self.body is _DIVERGING else JobState.SUCCEEDED}


class Customer(threading.Thread):
    """Keeps some jobs active at any time until `enough` is set. `problems` are unexpected answers."""

    def __init__(self, site: Site, weights_file: Path, chance: random.Random, webhook_url: str) -> None:
        super().__init__(name="customer", daemon=True)
        self._client = httpx.Client(base_url=f"http://127.0.0.1:{site.settings.port}", timeout=10)
        self._model, self._dataset = store(site, weights_file)
        self._chance, self._webhook_url = chance, webhook_url
        self.jobs: list[CustomerJob] = []
        self.enough = threading.Event()
        self.problems: list[str] = []

    def run(self) -> None:
        """Submit jobs until `enough` is set and the last request succeeded."""
        try:
            with self._client:
                self._answer("POST", "/webhooks", json={"url": self._webhook_url})
                self._keep_asking()
        except Exception as error:
            self.problems.append(repr(error))
            raise

    def _keep_asking(self) -> None:
        while not self.enough.is_set():
            if self._under_way() < IN_FLIGHT:
                self._ask(CustomerJob(len(self.jobs)))
            time.sleep(TRY_AGAIN_SECONDS)

    def _under_way(self) -> int:
        jobs = self._answer("GET", "/jobs?limit=100").json()["data"]
        return sum(job["status"] not in FINAL for job in jobs)

    def _ask(self, job: CustomerJob) -> None:
        body = {"model": self._model, "dataset": self._dataset, **job.body}
        job.id = self._answer("POST", job.route, json=body, headers={"Idempotency-Key": job.key}).json()["id"]
        self.jobs.append(job)
        if not job.wish:
            return
        time.sleep(self._chance.uniform(0, 6))
        answer = self._answer("POST", f"/jobs/{job.id}/{job.wish}")
        if job.wish == "cancel":
            job.cancelled = answer.is_success or answer.json().get("status") == JobState.CANCELLED
        else:
            time.sleep(self._chance.uniform(0, 3))
            self._answer("POST", f"/jobs/{job.id}/resume")

    def _answer(self, method: str, path: str, **options: Any) -> httpx.Response:
        """Send the request until it is answered, and return the response; 503 and silence are repeated; 409 is an answer."""
        while True:
            try:
                answer = self._client.request(method, path, **options)
            except httpx.TransportError:
                time.sleep(TRY_AGAIN_SECONDS)
                continue
            if not (answer.is_success or answer.status_code in (409, 503)):
                self.problems.append(f"{method} {path}: {answer.status_code} {answer.text}")
            if answer.status_code < 500:
                return answer
            time.sleep(TRY_AGAIN_SECONDS)
