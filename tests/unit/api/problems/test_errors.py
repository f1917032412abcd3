"""The places in a request that pydantic's errors point to."""

import pytest
from pydantic import ValidationError

from api.problems.errors import InvalidRequest, json_pointer
from api.schemas.requests import AuditRequest
from faal_client.resources.problems import FieldError


@pytest.mark.parametrize(
    ("location", "body", "pointer"),
    [
        (["threat", "epsilon"], {"threat": {"epsilon": 0}}, "/threat/epsilon"),
        (["attacks", 1, "steps"], {"attacks": [{}, {"steps": 0}]}, "/attacks/1/steps"),
        (["attacks", "tuple[PgdSpec, ...]", 0, "steps"], {"attacks": [{"steps": 0}]}, "/attacks/0/steps"),
        (["method", "faal", "dro_radius"], {"method": {"dro_radius": -1}}, "/method/dro_radius"),
        (["dataset"], {"model": "m"}, "/dataset"),
        (["threat", "epsilon"], {"threat": {}}, "/threat/epsilon"),
        (["a/b", "c~d"], {"a/b": {"c~d": 1}}, "/a~1b/c~0d"),
        ([], [1], ""),
    ],
)
def test_pointers_lead_to_the_fault(location: list[str | int], body: object, pointer: str) -> None:
    """A pointer names steps of the body alone, escaped as in RFC 6901, and a missing field by its expected name."""
    assert json_pointer(location, body) == pointer


def test_all_faults_are_told_at_once() -> None:
    """An InvalidRequest made of pydantic's error names every field, relative to the place of the body."""
    body = {"model": "m", "threat": {"epsilon": "8/0"}, "seed": -1}
    with pytest.raises(ValidationError) as failure:
        AuditRequest.model_validate(body)
    error = InvalidRequest.from_pydantic(failure.value, body, "/spec")
    assert [field.pointer for field in error.fields] == ["/spec/seed", "/spec/threat/epsilon", "/spec/dataset"]
    assert "'8/0' is not a radius" in error.message


def test_an_answer_lists_few_faults() -> None:
    """An InvalidRequest lists the first 20 errors, its message the first 5, and both give the number of the others."""
    body = {"model": "m", "dataset": "d", "threat": {"epsilon": 0.1}, "attacks": [1] * 1000}
    with pytest.raises(ValidationError) as failure:
        AuditRequest.model_validate(body)
    error = InvalidRequest.from_pydantic(failure.value, body)
    assert [field.pointer for field in error.fields] == [f"/attacks/{number}" for number in range(20)]
    assert error.message.startswith("/attacks/0: ")
    assert error.message.endswith(" (and 995 more)")


def test_what_a_fault_repeats_is_short() -> None:
    """A pointer has at most 200 characters and a detail 400, in characters that JSON's encoding can represent."""
    fault = FieldError(pointer="/" + "k" * 10**6, detail="\ud800" + "x" * 10**6)
    assert fault.pointer == "/" + "k" * 198 + "…"
    assert fault.detail == "?" + "x" * 398 + "…"
