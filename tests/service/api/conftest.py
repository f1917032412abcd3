"""A running web service without a worker, on SQLite and on PostgreSQL, and helpers that fill its tables."""

import itertools
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from faal_client.vocabulary import Scope
from faal_core.evidence import create_key
from faal_core.results.documents import AuditReport
from faal_core.results.outcomes import PARQUET_TYPE
from faal_core.results.reading import OUTCOMES
from faal_core.specs import ClassifierSpec
from jobs import keys, lifecycle, model_registry
from jobs.keys import site_secret
from jobs.results import StoredClassifier
from tests.sample_reports import sample_audit
from tests.service.processes import Site, SiteProcess

UPLOAD_LIMIT = 64 * 2**20
SIGNER = "FAAL service, test laboratory"
SPEC = ClassifierSpec(architecture="small_resnet", num_classes=10)
AUDIT = {"dataset": "fashion-mnist-subset", "threat": {"epsilon": "8/255"}, "attacks": "quick"}
FINETUNE = {"dataset": "fashion-mnist-subset", "threat": {"epsilon": "8/255"}}
_NUMBERS = itertools.count()


@dataclass(frozen=True)
class Web:
    """A running web service, a client for it, and its site."""

    site: Site
    process: SiteProcess
    client: httpx.Client

    def key(self, owner: str, *scopes: Scope, name: str = "test", max_priority: int = 0) -> dict[str, str]:
        """Issue a new key, and return the header that authenticates its holder."""
        secret = site_secret(self.site.settings)
        with self.site.sessions.begin() as session:
            fields = {"owner": owner, "name": name, "scopes": scopes, "max_priority": max_priority}
            _, key = keys.issue(session, secret, lifetime=None, **fields)
        return {"Authorization": f"Bearer {key}"}

    def model(self, name: str = "digits", owner: str = "local") -> str:
        """Return the id of a model that is ready; its weights are a few bytes in storage."""
        file = self.site.storage.put([b"weights %d" % next(_NUMBERS)], media_type="application/vnd.safetensors")
        with self.site.sessions.begin() as session:
            model, check = model_registry.register_upload(session, name=name, spec=SPEC, upload=file, owner=owner)
            lifecycle.claim(session, check.id, worker="test", lease_seconds=600)
            lifecycle.succeed(session, check.id, 1, result_model=StoredClassifier(file, SPEC, "d" * 64))
        return model.id

    def audit(self, model: str | None = None, **fields: Any) -> str:
        """Return the id of a queued audit."""
        answer = self.client.post("/jobs/audit", json=AUDIT | {"model": model or self.model()} | fields)
        assert answer.status_code == 202, answer.text
        return str(answer.json()["id"])

    def run(self, job_id: str) -> Callable[..., None]:
        """Claim the job as a worker does, and return a function that records its progress."""
        with self.site.sessions.begin() as session:
            assert lifecycle.claim(session, job_id, worker="test", lease_seconds=600) is not None

        def record(**progress: Any) -> None:
            with self.site.sessions.begin() as session:
                lifecycle.record_progress(session, job_id, 1, **progress)

        return record

    def succeed(self, job_id: str, report: AuditReport | None = None, **outcomes: bytes) -> str:
        """Let the running job succeed, and return its report as stored.

        Args:
            report: of the job; default: a sample.
            outcomes: contents of the files with outcomes, by the keys of `OUTCOMES`.
        """
        document = (report or sample_audit()).model_dump_json()
        stored = {
            OUTCOMES[name]: self.site.storage.put([content], media_type=PARQUET_TYPE)
            for name, content in outcomes.items()
        }
        with self.site.sessions.begin() as session:
            lifecycle.succeed(session, job_id, 1, report=document, outcomes=stored)
        return document

    def cancel(self, job_id: str, *, report: str) -> str:
        """Cancel the running job, and return its report."""
        with self.site.sessions.begin() as session:
            lifecycle.cancel_running(session, job_id, 1, report=report)
        return report

    def fail(self, job_id: str, code: str, message: str) -> None:
        """Let the running job fail with that error."""
        with self.site.sessions.begin() as session:
            lifecycle.fail(session, job_id, 1, code=code, message=message)


@pytest.fixture(scope="session", params=["sqlite", "postgresql"])
def web(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Web]:
    """Yield the service, on SQLite and a folder and on PostgreSQL and S3; tests share it and examine their own rows only."""
    folder = tmp_path_factory.mktemp("web")
    create_key(folder / "signing.pem")
    settings = {"upload_limit": UPLOAD_LIMIT, "webhook_networks": "127.0.0.1"}
    settings |= {"signing_key": folder / "signing.pem", "signer": SIGNER}
    yield from serve(folder, _database(request) | settings)


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def guarded_web(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Web]:
    """Yield a service, once on each database, for a module whose tests create keys; the first key makes keys required."""
    yield from serve(tmp_path_factory.mktemp("guarded"), _database(request))


def _database(request: pytest.FixtureRequest) -> dict[str, object]:
    if request.param == "sqlite":
        return {}
    postgres = request.getfixturevalue("postgres")
    store = request.getfixturevalue("object_store")
    return {"database_url": postgres.url(postgres.new_database()), "store_url": store.new_url()}


@pytest.fixture
def own_web(tmp_path: Path) -> Iterator[Web]:
    """Yield a service on SQLite for a test that breaks something."""
    yield from serve(tmp_path, {"dataset_root": tmp_path / "datasets"})


def serve(folder: Path, settings: dict[str, object]) -> Iterator[Web]:
    """Yield a service of that folder, and end it afterwards."""
    site = Site(folder, **settings)
    try:
        process, client = site.api()
        yield Web(site, process, client)
        client.close()
    finally:
        site.close()


@pytest.fixture
def problem() -> Callable[[httpx.Response], dict[str, Any]]:
    """Return a function that reads the problem in a response, and checks the fields that all problems share."""

    def read(answer: httpx.Response) -> dict[str, Any]:
        assert answer.headers["Content-Type"] == "application/problem+json", answer.text
        body: dict[str, Any] = json.loads(answer.content)
        assert body["status"] == answer.status_code
        assert body["type"] == f"/problems/{body['code']}"
        assert body["request_id"] == answer.headers["X-Request-Id"]
        assert body["instance"] == answer.request.url.path
        return body

    return read
