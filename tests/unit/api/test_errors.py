"""Where pydantic's errors point to in what was sent."""

import pytest
from pydantic import ValidationError

from api.errors import InvalidRequest, json_pointer
from api.requests import AuditRequest


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
    """A pointer names steps of the body alone, escaped as in RFC 6901, and a missing field by the name it should have."""
    assert json_pointer(location, body) == pointer


def test_all_faults_are_told_at_once() -> None:
    """An InvalidRequest made of pydantic's error names every field, below the place where the body lies."""
    body = {"model": "m", "threat": {"epsilon": "8/0"}, "seed": -1}
    with pytest.raises(ValidationError) as caught:
        AuditRequest.model_validate(body)
    error = InvalidRequest.of(caught.value, body, "/spec")
    assert [field.pointer for field in error.fields] == ["/spec/seed", "/spec/threat/epsilon", "/spec/dataset"]
    assert "'8/0' is not a radius" in error.message
