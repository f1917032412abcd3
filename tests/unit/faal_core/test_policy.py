"""Policies: their fields and files, and the errors in both."""

import json
import re
from pathlib import Path

import jsonschema
import pytest
from pydantic import ValidationError

from faal_core import catalog
from faal_core.errors import InvalidSpec
from faal_core.specs import Policy
from faal_core.specs.policy import STRENGTH
from faal_core.specs.policy_file import MAX_BYTES, read_policy_document

COMPLETE = """
# The requirements of one model.
min_worst: 0.25
min_robust: .5
min_clean: 8e-1
max_gap: 0.3
min_class:
  stop sign: 0.4
  no: 0.1        # a name, although YAML could read it as false
  0: 0.2
min_group: {camera: 0.3}
baseline: {tolerance: 0.02}
scope:
  norm: L2
  epsilon: 8/255
  attacks: AutoAttack
  dataset_sha256: "%s"
confidence: 0.9
undecided: pass
accept_warnings: [square-beats-gradients]
""" % ("0123456789" * 6 + "0000")


def write(folder: Path, text: str | bytes, name: str = "policy.yaml") -> Path:
    """Write the file of a policy."""
    file = folder / name
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return file


def test_a_file_sets_every_field(tmp_path: Path) -> None:
    """YAML has numbers, fractions and the spellings of names; keys and digests are texts, whatever YAML makes of them."""
    policy = Policy.model_validate(read_policy_document(write(tmp_path, COMPLETE)))
    assert (policy.min_worst, policy.min_robust, policy.min_clean, policy.max_gap) == (0.25, 0.5, 0.8, 0.3)
    assert policy.min_class == {"stop sign": 0.4, "no": 0.1, "0": 0.2}
    assert policy.min_group == {"camera": 0.3}
    assert policy.baseline is not None
    assert policy.baseline.tolerance == 0.02
    assert (policy.scope.norm, policy.scope.epsilon, policy.scope.attacks) == ("l2", 8 / 255, "standard")
    assert policy.scope.dataset_sha256 == "0123456789" * 6 + "0000"
    assert (policy.confidence, policy.undecided, policy.accept_warnings) == (0.9, "pass", ("square-beats-gradients",))


def test_json_is_the_same_policy(tmp_path: Path) -> None:
    """A policy that was written as JSON is read back equal, and the published schema accepts it."""
    policy = Policy.model_validate(read_policy_document(write(tmp_path, COMPLETE)))
    document = read_policy_document(write(tmp_path, policy.model_dump_json(), "policy.json"))
    assert Policy.model_validate(document) == policy
    jsonschema.validate(policy.model_dump(mode="json", exclude_none=True), Policy.model_json_schema())


@pytest.mark.parametrize(
    "document", [{"min_worst": 2}, {"min_worst": 0.2, "scope": {"attacks": "no-such"}}, {"min_wurst": 0.2}]
)
def test_the_schema_refuses_what_the_policy_refuses(document: dict) -> None:
    """The JSON schema knows bounds, names and fields."""
    with pytest.raises(ValidationError):
        Policy.model_validate(document)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(document, Policy.model_json_schema())


def test_a_radius_alone_is_of_linf() -> None:
    """The norm of a scope defaults to linf only where a radius is required."""
    assert Policy(min_worst=0.1, scope={"epsilon": "8/255"}).scope.norm == "linf"
    assert Policy(min_worst=0.1, scope={"attacks": "fast"}).scope.norm is None


def test_every_preset_has_a_strength() -> None:
    """The order of strength has all presets of the catalog."""
    assert set(STRENGTH) == set(catalog.PRESETS)


@pytest.mark.parametrize("document", [{}, {"scope": {"epsilon": 0.1}}, {"undecided": "pass"}, {"min_class": {}}])
def test_a_policy_without_a_requirement_is_refused(document: dict) -> None:
    """A policy that could never fail is an error."""
    with pytest.raises(ValidationError, match="no requirement"):
        Policy.model_validate(document)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("min_worst: 0.1\nmin_worst: 0.2\n", "'min_worst' occurs twice"),
        ("min_class: {a: 0.1, a: 0.2}\n", "'a' occurs twice"),
        ("min_class: &a {b: 0.1}\nmin_group: *a\n", "line 2 refers to an anchor"),
        ("a: &a [*a]\n", "refers to an anchor"),
        ("? [1]\n: 2\n", "is no text"),
        ("min_worst: 0.1\n---\nmin_worst: 0.2\n", "single document"),
        ("min_worst: [", "not a policy in YAML"),
        ("[" * 5000, "nested too deeply"),
        (b"min_worst: \xff\xfe", "not a policy in YAML"),
        (b"\x00", "not a policy in YAML"),
        ("", "has no fields"),
        ("- min_worst\n", "has no fields"),
        ("#" * (MAX_BYTES + 1), "more than 512 KiB"),
    ],
)
def test_a_malformed_file_is_explained(tmp_path: Path, text: str | bytes, message: str) -> None:
    """The error names the file and the fault in one line."""
    with pytest.raises(InvalidSpec, match=message) as refused:
        read_policy_document(write(tmp_path, text))
    assert "policy.yaml" in refused.value.message
    assert "\n" not in refused.value.message


@pytest.mark.parametrize(
    ("text", "message"), [('{"a": 1, "a": 2}', "'a' occurs twice"), ("{", "not a policy in JSON"), ("[]", "no fields")]
)
def test_malformed_json_is_explained(tmp_path: Path, text: str, message: str) -> None:
    """A .json file is read as JSON."""
    with pytest.raises(InvalidSpec, match=message):
        read_policy_document(write(tmp_path, text, "policy.json"))


def test_the_policy_of_the_docs_is_valid(tmp_path: Path) -> None:
    """The guide's example sets every field."""
    page = Path(__file__).parents[3] / "docs/how-to/ci-gate.md"
    (example,) = re.findall(r"^```yaml\n(.*?)^```", page.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    document = read_policy_document(write(tmp_path, example))
    assert document.keys() == Policy.model_fields.keys()
    Policy.model_validate(document)


def test_tags_construct_nothing(tmp_path: Path) -> None:
    """A tag that names a Python object is a text, and no requirement."""
    document = read_policy_document(write(tmp_path, "min_worst: !!python/object/apply:os.getpid []\n"))
    assert document == {"min_worst": []}


def test_a_long_list_of_values_is_refused() -> None:
    """A policy has no more names than a report has classes."""
    with pytest.raises(ValidationError):
        Policy.model_validate(json.loads(json.dumps({"min_class": {str(name): 0.1 for name in range(20_000)}})))
