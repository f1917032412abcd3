"""The description of the API: committed as it is, and complete enough to generate clients from."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[4]
DOCUMENT: dict[str, Any] = json.loads((ROOT / "docs/openapi.json").read_text("utf-8"))
OPERATIONS: dict[str, dict[str, Any]] = {
    f"{method} {path}": operation
    for path, methods in DOCUMENT["paths"].items()
    for method, operation in methods.items()
}


def resolve(schema: dict[str, Any]) -> dict[str, Any]:
    """Return the schema, or its target if it is a reference."""
    return DOCUMENT["components"]["schemas"][schema["$ref"].rsplit("/", 1)[1]] if "$ref" in schema else schema


def test_the_committed_description_is_that_of_the_code() -> None:
    """docs/openapi.json is what scripts/write_openapi.py writes; run it after a change of the API."""
    program = "import runpy; print(runpy.run_path('scripts/write_openapi.py')['describe_api'](), end='')"
    output = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert json.loads(output.stdout) == DOCUMENT


def test_operations_have_names_of_their_own() -> None:
    """Each operation has a plain and unique name, since generated clients call their methods by it."""
    names = [operation["operationId"] for operation in OPERATIONS.values()]
    assert len(names) == len(set(names))
    assert all(name.isidentifier() for name in names)


@pytest.mark.parametrize("name", OPERATIONS)
def test_every_operation_says_how_it_refuses(name: str) -> None:
    """Each operation has a description, and the problem schema for each status that is no success."""
    operation = OPERATIONS[name]
    assert operation["summary"]
    assert operation["description"]
    for status, answer in operation["responses"].items():
        if status == "default" or status >= "400":
            schema = answer["content"]["application/problem+json"]["schema"]
            assert schema == {"$ref": "#/components/schemas/Problem"}
    assert "default" in operation["responses"]
    assert "422" not in operation["responses"]


@pytest.mark.parametrize("name", OPERATIONS)
def test_every_body_has_an_example(name: str) -> None:
    """Each request body has a valid example."""
    for content in OPERATIONS[name].get("requestBody", {}).get("content", {}).values():
        assert resolve(content["schema"])["examples"]


def test_examples_are_valid() -> None:
    """The examples of the bodies pass the service's own validation."""
    from api.schemas.requests import AuditRequest, FinetuneRequest

    for request in (AuditRequest, FinetuneRequest):
        for example in DOCUMENT["components"]["schemas"][request.__name__]["examples"]:
            request.model_validate(example)
