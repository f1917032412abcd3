"""Text from clients: characters that a database cannot store, or a reader cannot see, are refused."""

import json
import struct
from typing import Any

import pytest

from tests.service.api.conftest import AUDIT, FINETUNE, Web

ODD = ["\x00", "a\x00b", "\x1b[2J", "\x7f", "x" * 1001]
SPEC = {"architecture": "small_resnet", "num_classes": 2}


def _file(metadata: dict[str, str]) -> bytes:
    header = json.dumps({"__metadata__": metadata}).encode()
    return struct.pack("<Q", len(header)) + header


def _uploads(odd: str) -> list[dict[str, Any]]:
    """Return models whose form or file holds that text in one place."""
    plain = _file({})
    specs = [SPEC | {"class_names": ["a", odd]}, SPEC | {"arguments": {odd: 1}}, SPEC | {"architecture": odd}]
    return [
        {"data": {"spec": json.dumps(SPEC), "name": f"a{odd}b"}, "content": plain},
        {"data": {"spec": json.dumps(SPEC), "weights_key": f"a{odd}b"}, "content": plain},
        {"data": {"spec": json.dumps(SPEC), f"a{odd}b": "x"}, "content": plain},
        {"data": {"architecture": "small_resnet", "num_classes": "2", "class_names": f"a,b{odd}c"}, "content": plain},
        *({"data": {"spec": json.dumps(spec)}, "content": plain} for spec in specs),
        *({"data": {}, "content": _file({"faal": json.dumps(spec)})} for spec in specs),
    ]


@pytest.mark.parametrize("odd", ODD, ids=lambda odd: repr(odd[:9]))
def test_odd_text_in_uploads_is_refused(web: Web, odd: str) -> None:
    """A NUL, another control character, or 1,001 characters in a form or in a file's own description are answered with 422."""
    for upload in _uploads(odd):
        answer = web.client.post("/models", data=upload["data"], files={"file": ("a.safetensors", upload["content"])})
        assert (answer.status_code, answer.json()["code"]) == (422, "invalid-request"), upload["data"]
    answer = web.client.post("/datasets", data={"name": f"a{odd}b"}, files={"file": ("a.zip", b"PK\x03\x04")})
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid-request")


@pytest.mark.parametrize("odd", [*ODD, "\ud800"], ids=lambda odd: repr(odd[:9]))
def test_odd_text_in_jobs_is_refused(web: Web, odd: str) -> None:
    """Every text of a job, a key and a filter is refused for these characters, and for lone surrogates, which JSON can hold."""
    model = web.model()
    audits = [
        {"model": odd},
        {"dataset": odd},
        {"pool": odd},
        {"metadata": {"ticket": odd}},
        {"metadata": {odd: "1"}},
        {"attacks": odd},
        {"attacks": [{"type": odd}]},
        {"threat": {"epsilon": 0.1, "norm": odd}},
        {odd: 1},
    ]
    bodies = [("/jobs/audit", AUDIT | {"model": model} | fields) for fields in audits]
    bodies += [("/jobs/finetune", FINETUNE | {"model": model, "method": {"type": odd}})]
    bodies += [("/jobs/finetune", FINETUNE | {"model": model, "preset": odd})]
    for path, body in bodies:
        content = json.dumps(body).encode()
        answer = web.client.post(path, content=content, headers={"Content-Type": "application/json"})
        assert (answer.status_code, answer.json()["code"]) == (422, "invalid-request"), body
    if odd.isascii():
        for name in ("model", "after", "status"):
            answer = web.client.get("/jobs", params={name: odd})
            assert (answer.status_code, answer.json()["code"]) == (422, "invalid-request"), name
