"""Thousands of requests generated from the API's description, valid and invalid, are answered as it describes."""

from pathlib import Path

import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi import checks

from faal_client.vocabulary import Scope
from tests.service.api.conftest import AUDIT, FINETUNE, Web

pytestmark = pytest.mark.slow

AS_DESCRIBED = [
    not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_headers_conformance,
    checks.response_schema_conformance,
]


@pytest.fixture(scope="module")
def bearer(guarded_web: Web) -> dict[str, str]:
    """Return a key with every scope; from here on the service requires one."""
    return guarded_web.key("local", *Scope)


@pytest.fixture(scope="module", autouse=True)
def ids(guarded_web: Web, bearer: dict[str, str]) -> dict[str, str]:
    """Return the ids of existing resources, created while quotas have room, by the first part of their path."""
    model = guarded_web.model()
    file = {"file": ("a.zip", b"PK\x03\x04")}
    dataset = guarded_web.client.post("/datasets", headers=bearer, files=file).json()["id"]
    job = guarded_web.client.post("/jobs/audit", headers=bearer, json=AUDIT | {"model": model}).json()["id"]
    key = guarded_web.client.get("/keys", headers=bearer).json()["data"][0]["id"]
    upload = guarded_web.client.post("/uploads", headers=bearer, json={"size": 9}).json()["id"]
    hook = guarded_web.client.post("/webhooks", headers=bearer, json={"url": "https://a.example/"}).json()["about"][
        "id"
    ]
    body = AUDIT | {"name": "weekly", "model_name": "digits"}
    plan = guarded_web.client.post("/plans", headers=bearer, json=body).json()["id"]
    body = FINETUNE | {"name": "rivals", "model": model, "methods": [{"type": "faal"}], "seeds": [0]}
    study = guarded_web.client.post("/studies", headers=bearer, json=body).json()["id"]
    others = {"models": model, "datasets": dataset, "jobs": job, "keys": key, "uploads": upload, "webhooks": hook}
    return others | {"plans": plan, "studies": study}


schema = schemathesis.openapi.from_path(Path(__file__).parents[3] / "docs/openapi.json")
ENOUGH = settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))


@schema.parametrize()
@ENOUGH
def test_every_answer_is_as_described(case: schemathesis.Case, guarded_web: Web, bearer: dict[str, str]) -> None:
    """No request is answered with 5xx, or with a status, type, header or body that the description does not list."""
    case.call_and_validate(base_url=str(guarded_web.client.base_url), headers=bearer, checks=AS_DESCRIBED, timeout=30)


@schema.include(path_regex=r"\{id\}").exclude(path_regex="revoke|cancel").parametrize()
@ENOUGH
def test_every_answer_about_something_is_as_described(
    case: schemathesis.Case, guarded_web: Web, bearer: dict[str, str], ids: dict[str, str]
) -> None:
    """Requests about existing resources are answered as described, too."""
    case.path_parameters["id"] = ids[case.path.split("/")[1]]
    case.call_and_validate(base_url=str(guarded_web.client.base_url), headers=bearer, checks=AS_DESCRIBED, timeout=30)
