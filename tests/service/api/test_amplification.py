"""A small request never causes a large answer, much work or a large process, on any route and with any stored data."""

import json
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi.routing import APIRoute

from api.pages import access_pages, explanations, job_list, job_page, login, plan_pages, uploads
from faal_client.vocabulary import Scope
from faal_core.specs import ClassifierSpec
from jobs import model_registry
from tests.service.api.conftest import AUDIT, Web

BODY_BYTES = 2**20
LINE_BYTES = 15_000  # of a request's address; the server refuses a head of more than 16 KiB before a route sees it
MOST_ANSWER_BYTES = 100_000
MOST_CPU_SECONDS = 1.0  # of the service, for one request
MOST_MEMORY_KIB = 300 * 1024
MANY, MOST_ALLOWED = 70_000, 11_000  # values: more than a spec may have, and as many as it may


@cache
def amplifiers(count: int) -> dict[str, Any]:
    """Return JSON values of about `count` parts, each of which is wrong."""
    return {
        "numbers": [1] * count,
        "words": ["x"] * count,
        "empty objects": [{}] * count,
        "attacks": [{"type": "pgd", "steps": 0}] * (count // 4),
        "methods": [{"type": "x" * 9, "loss": 1}] * (count // 4),
        "unknown fields": {f"a{number}": "x" for number in range(count)},
        "text": "x" * (5 * count),
        "control characters": "\x01" * count,
        "half a character": "\ud800" * (count // 2),
        "long key": {"k" * (5 * count): 1},
        "half keys": {f"\ud800{number}": 1 for number in range(count // 2)},
        "deep": json.loads('{"threat":' * 400 + "1" + "}" * 400),
        "digits": "9" * (5 * count),
    }


@cache
def whole_bodies() -> tuple[bytes, ...]:
    """Return JSON bodies that are amplifiers, or combine amplifiers with valid fields."""
    values = [*amplifiers(MANY).values(), amplifiers(MOST_ALLOWED)["unknown fields"]]
    right = {**AUDIT, "model": "m", "kind": "audit"}
    return tuple(json.dumps({**right, **one} if isinstance(one, dict) else one).encode() for one in values)


@cache
def bodies(properties: tuple[str, ...]) -> tuple[bytes, ...]:
    """Return JSON bodies with amplifiers in every field, nested ones included."""
    values_wrong = []
    for count in (MANY, MOST_ALLOWED):
        for value in amplifiers(count // len(properties)).values():
            values_wrong.append(dict.fromkeys(properties, value))
            values_wrong.append(
                {"kind": "finetune", "threat": {"epsilon": value}, "training": {"learning_rates": value}}
            )
    return tuple(json.dumps(body).encode() for body in values_wrong)


def texts() -> Iterator[str]:
    """Yield values of form fields."""
    for name in ("numbers", "unknown fields", "long key", "deep"):
        yield json.dumps(amplifiers(MANY)[name])
    yield from ("x," * MANY, "x," * MOST_ALLOWED, "[" * MANY, '"' * MANY, "9" * MANY, "\x01" * MANY)


def properties_of(content: dict[str, Any], description: dict[str, Any]) -> list[str]:
    """Return the fields of a body, those of every member of a union."""
    schema = content["schema"]
    members = schema.get("oneOf", [schema])
    parts = [
        description["components"]["schemas"][one["$ref"].split("/")[-1]] if "$ref" in one else one for one in members
    ]
    return sorted({name for part in parts for name in part["properties"]})


def requests(description: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield requests to every route, also of the pages, with a body, a form, parameters or an id in the address."""
    for path, methods in description["paths"].items():
        for method, operation in methods.items():
            address_of_route = {"method": method.upper(), "url": path.replace("{id}", "x").replace("{number}", "0")}
            for kind, content in operation.get("requestBody", {}).get("content", {}).items():
                if kind == "application/json":
                    for body in whole_bodies() + bodies(tuple(properties_of(content, description))):
                        yield {**address_of_route, "content": body, "headers": {"Content-Type": kind}}
                elif kind == "multipart/form-data":
                    yield from forms(address_of_route, properties_of(content, description))
            for name in [one["name"] for one in operation.get("parameters", []) if one["in"] == "query"]:
                for value in ("x" * LINE_BYTES, "\x01" * (LINE_BYTES // 3)):
                    yield {**address_of_route, "params": {name: value}}
                yield {**address_of_route, "params": [(name, "\x01")] * (LINE_BYTES // (len(name) + 5))}
            if "{id}" in path:
                yield {
                    **address_of_route,
                    "url": path.replace("{id}", "%01" * (LINE_BYTES // 3)).replace("{number}", "0"),
                }
    for router in (
        page.router for page in (access_pages, explanations, job_list, job_page, login, plan_pages, uploads)
    ):
        for route in router.routes:
            assert isinstance(route, APIRoute)
            address_of_route = {"method": "POST", "url": route.path}
            if "POST" in route.methods and (fields := [one.name for one in route.dependant.body_params]):
                yield from url_encoded_forms(address_of_route, fields)
    yield from forms({"method": "POST", "url": "/ui/models"}, ["class_names"])
    yield from forms({"method": "POST", "url": "/ui/datasets"}, ["name"])
    for address in ("/?model=", "/login?back=/", "/nothing/"):
        yield {"method": "GET", "url": address + "%22" * (LINE_BYTES // 3)}


def forms(request: dict[str, str], fields: list[str]) -> Iterator[dict[str, Any]]:
    """Yield multipart forms with an amplifier in one of the fields, in an unknown one, or in a field's name."""
    file = {"file": ("a.safetensors", b"\x02\0\0\0\0\0\0\0{}")}
    right = {"architecture": "small_resnet", "num_classes": "3"} if "spec" in fields else {}
    for name in [*fields, "unknown"]:
        for text in texts():
            others = {} if name in ("spec", "upload") else right
            yield {**request, "data": {**others, name: text}, "files": file}
    yield {**request, "data": {f"{number}" * 1000: "x" for number in range(20)}, "files": file}


def url_encoded_forms(request: dict[str, str], fields: list[str]) -> Iterator[dict[str, Any]]:
    """Yield forms of a page with an amplifier in its fields, and with many fields."""
    for name in [*fields, "model", "epsilon", "attacks", "epochs", "seed"]:
        for value in ("x" * MANY, "9" * MANY, "\x01" * MANY, '"' * MANY):
            yield {**request, "data": {name: value}}
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    yield {**request, "content": b"a=&" * (BODY_BYTES // 3), "headers": headers}
    yield {**request, "content": b"key=x&" * 900, "headers": headers}


def cpu_seconds(pid: int) -> float:
    """Return the processor time that a process has taken."""
    after_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(after_name[11]) + int(after_name[12])) / os.sysconf("SC_CLK_TCK")


def most_memory_kib(pid: int) -> int:
    """Return the most memory that a process has held."""
    lines = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return int(lines["VmHWM"].split()[0])


@pytest.fixture
def client(own_web: Web) -> Iterator[httpx.Client]:
    """Return a client whose key has every scope."""
    address = own_web.client.base_url
    with httpx.Client(base_url=address, headers=own_web.key("ann", *Scope), timeout=60) as asking:
        yield asking


def test_answers_are_small_whatever_is_asked(own_web: Web, client: httpx.Client) -> None:
    """The answer to any request of at most 1 MiB is below 100 kB, takes less than a second, and is never a 5xx."""
    description, pid, count = client.get("/openapi.json").json(), own_web.process.pid, 0
    for request in requests(description):
        before = cpu_seconds(pid)
        answer = client.request(**request)
        excerpt = {name: str(value)[:100] for name, value in request.items()}
        assert answer.status_code < 500, (excerpt, answer.text)
        assert len(answer.content) < MOST_ANSWER_BYTES, excerpt
        assert cpu_seconds(pid) - before < MOST_CPU_SECONDS, excerpt
        count += 1
    assert count > 100


def test_memory_stays_bounded(own_web: Web, client: httpx.Client) -> None:
    """Three simultaneous amplifying requests of each kind leave the service below 300 MiB."""
    form = {"architecture": "small_resnet", "num_classes": "3"}
    file = {"file": ("a.safetensors", b"\x02\0\0\0\0\0\0\0{}")}
    bodies_sent: list[dict[str, Any]] = [
        {"url": "/models", "data": {**form, "mean": "x," * 250_000}, "files": file},
        {"url": "/models", "data": {**form, "class_names": json.dumps([1] * 170_000)}, "files": file},
        {"url": "/jobs/audit", "json": {**AUDIT, "model": "m", "attacks": [1] * 170_000}},
        {"url": "/jobs/audit", "json": {**AUDIT, "model": "m", **amplifiers(70_000)["unknown fields"]}},
        {"url": "/jobs/finetune", "json": {**AUDIT, "model": "m", "training": {"learning_rates": [{}] * 11_000}}},
    ]
    with ThreadPoolExecutor(3) as pool:
        for request in bodies_sent:
            answers = list(pool.map(lambda one: client.post(**one), [request] * 3))
            assert [answer.status_code for answer in answers] == [422] * 3
    assert most_memory_kib(own_web.process.pid) < MOST_MEMORY_KIB


def test_lists_of_large_models_are_bounded(own_web: Web, client: httpx.Client) -> None:
    """With 60 models of 10,000 long class names each, every list and page is below 10 MB, and the service below 300 MiB."""
    names = tuple(f"{number:05d}" + "x" * 90 for number in range(10_000))
    spec = ClassifierSpec(architecture="small_resnet", num_classes=10_000, class_names=names)
    file = own_web.site.storage.put([b"weights"], media_type="application/vnd.safetensors")
    with own_web.site.sessions.begin() as session:
        for _ in range(60):
            model_registry.register_upload(session, name="large", spec=spec, upload=file, owner="ann")
    for address in ("/", "/ui/jobs?job=job_0", "/ui/models", "/models?limit=100", "/jobs?limit=100"):
        answer = client.get(address)
        assert answer.is_success
        assert len(answer.content) < 10_000_000, address
    assert client.get("/models?limit=100").json()["has_more"]
    assert most_memory_kib(own_web.process.pid) < MOST_MEMORY_KIB
