"""The form of limits that a report is checked against. Its fields become a policy, with the same validation as in the API."""

import json
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Annotated, Any, NamedTuple

from fastapi import UploadFile
from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError

from api.problems.errors import InvalidRequest
from api.schemas.packs import MOST_POLICY_TEXT
from api.schemas.requests import PolicyRequest
from api.serving.policy_text import parse_policy_text
from faal_client.resources.problems import FieldError, Problem
from faal_core.specs.field_errors import shorten
from faal_core.threat_model import format_radius, parse_radius

_LONGEST = 40  # characters of a value that a message repeats
TOO_LONG = f"the text has more than {MOST_POLICY_TEXT:,} characters; shorten it"
MORE_REQUIREMENTS = frozenset({"min_group", "attacks", "epsilon", "undecided", "policy", "policy_file"})
JsonText = Annotated[str, Field(max_length=6 * MOST_POLICY_TEXT)]  # an escape takes six characters
_PLACES = {"baseline": "tolerance", "scope/epsilon": "epsilon", "scope/attacks": "attacks"}


class WrittenPolicy(NamedTuple):
    """A policy, and the text of its file: as the owner wrote it, or YAML with the values of the form."""

    policy: PolicyRequest
    text: str

    @property
    def json_text(self) -> str:
        """Return the text as a JSON string. Browsers change the line ends of other texts, and a signature is of each byte."""
        return json.dumps(self.text, ensure_ascii=False)


class GateForm(BaseModel):
    """The fields of the form as text, rates in percent; an empty field is an empty string.

    Args:
        policy: text of a policy file; the other fields replace its values.
        policy_as_read: text that the page had in `policy`, as a JSON string. It has the line ends that the browser changed.
        policy_file: policy file that the browser sends; replaces `policy`.
        policy_json: text of a policy file as a JSON string; replaces all other fields.
    """

    # A browser sends two characters for the end of a line. `read` reports texts that are longer than `MOST_POLICY_TEXT`.
    model_config = ConfigDict(frozen=True, str_max_length=2 * MOST_POLICY_TEXT)

    min_worst: str = ""
    min_robust: str = ""
    min_clean: str = ""
    max_gap: str = ""
    min_class: str = ""
    min_group: str = ""
    tolerance: str = ""
    attacks: str = ""
    epsilon: str = ""
    undecided: str = ""
    policy: str = ""
    policy_as_read: JsonText = ""
    policy_file: UploadFile | None = None
    policy_json: JsonText = ""

    @property
    def has_more_requirements(self) -> bool:
        """Return whether a field of `MORE_REQUIREMENTS` has a value."""
        return any(getattr(self, name) for name in MORE_REQUIREMENTS)

    @property
    def policy_json_text(self) -> str:
        """Return the text of the policy file as a JSON string, for `policy_as_read`; "" for a text that is too long."""
        return json.dumps(self.policy, ensure_ascii=False) if len(self.policy) <= MOST_POLICY_TEXT else ""

    def with_file(self) -> "GateForm":
        """Return the form with the text of the policy file as it was written. Raises: InvalidRequest for a file that is no text.

        A text that the owner typed or pasted gets the line ends of Unix. One that the page had before keeps its own.
        """
        if self.policy_json:
            return type(self)(policy=_read_json_text(self.policy_json))
        content = read_file("policy_file", self.policy_file)
        if content is None:
            content = unify_line_ends(self.policy)
            text = _parse_json_text(self.policy_as_read)
            if text is not None and unify_line_ends(text) == content:
                content = text
        return self.model_copy(update={"policy": content, "policy_file": None, "policy_as_read": ""})

    def read(self) -> WrittenPolicy:
        """Return the policy, and the text of its file. Raises: InvalidRequest."""
        limits = self._read_limits()
        document = self._read_document()
        if isinstance(document.get("scope"), dict) and "scope" in limits:
            limits["scope"] = {**document["scope"], **limits["scope"]}
        if not self.policy.strip() and not limits.keys() - {"scope", "undecided"}:
            raise InvalidRequest.for_field("/min_worst", "there is no limit; set at least one, or a policy file")
        fields: dict[str, Any] = {**document, **limits}
        try:
            policy = PolicyRequest.model_validate(fields)
        except ValidationError as error:
            raise InvalidRequest.from_pydantic(error, fields) from None
        return WrittenPolicy(policy, _write(policy) if limits else self.policy)

    def _read_document(self) -> dict[str, Any]:
        """Return the fields of the policy file. Raises: InvalidRequest, also for wrong fields that the form would replace."""
        if not self.policy.strip():
            return {}
        document = parse_policy_text(self.policy)
        try:
            PolicyRequest.model_validate(document)
        except ValidationError as error:
            if error.errors()[0]["loc"]:  # otherwise the file has no limit, or too many; `read` checks the whole policy
                raise InvalidRequest.from_pydantic(error, document, "/policy") from None
        return document

    def _read_limits(self) -> dict[str, Any]:
        """Return the fields of a policy that the form's own fields set. Raises: InvalidRequest, with each unreadable field."""
        values: dict[str, Any] = {}
        texts = {name: unify_line_ends(getattr(self, name)) for name in (*_PARSERS, "policy")}
        errors = [
            FieldError(pointer=f"/{name}", detail=TOO_LONG) for name in texts if len(texts[name]) > MOST_POLICY_TEXT
        ]
        for name, parse in _PARSERS.items():
            try:
                if text := texts[name].strip():
                    values[name] = parse(text)
            except ValueError as error:
                errors.append(FieldError(pointer=f"/{name}", detail=str(error)))
        if errors:
            raise InvalidRequest("; ".join(f"{error.pointer}: {error.detail}" for error in errors), *errors)
        if "tolerance" in values:
            values["baseline"] = {"tolerance": values.pop("tolerance")}
        if scope := {name: values.pop(name) for name in ("attacks", "epsilon") if name in values}:
            values["scope"] = scope
        return values


def unify_line_ends(text: str) -> str:
    """Return the text with the line ends of Unix, as a browser does with the text in a field."""
    return text.replace("\r\n", "\n").replace("\r", "\n")


def read_file(field: str, file: UploadFile | None) -> str | None:
    """Return the text of a file that was chosen in a field, or None. Raises: InvalidRequest for a large file, and for no text."""
    if file is None or not file.filename:
        return None
    content = file.file.read(MOST_POLICY_TEXT + 1)
    if len(content) > MOST_POLICY_TEXT:
        raise InvalidRequest.for_field(
            f"/{field}", f"the file has more than {MOST_POLICY_TEXT // 1024} KiB; choose another one"
        )
    try:
        return content.decode()
    except UnicodeDecodeError:
        raise InvalidRequest.for_field(f"/{field}", "the file is not text in UTF-8; choose another one") from None


def locate_errors(problem: Problem, form: GateForm) -> dict[str, str]:
    """Return the messages of a problem by the form's fields, in the order of the form."""
    located: dict[str, str] = {}
    for error in problem.errors or ():
        _locate(error.pointer or "", error.detail, form, located)
    if not problem.errors:  # a class or a column of groups that the report does not have
        name, _, detail = problem.detail.partition(": ")
        if name in ("min_class", "min_group"):
            _locate(f"/{name}", detail, form, located)
    return {name: located[name] for name in GateForm.model_fields if name in located}


def _locate(pointer: str, detail: str, form: GateForm, located: dict[str, str]) -> None:
    """Add a message at the field that has the value: one of the form's own, or that of the file."""
    path = pointer.removeprefix("/") or ("min_class" if form.min_class else "policy")
    if path.startswith("policy/"):  # a field of the file
        located.setdefault("policy", f"{path.removeprefix('policy/').replace('/', ' › ')}: {detail}")
        return
    name = next((field for place, field in _PLACES.items() if f"{path}/".startswith(f"{place}/")), path.split("/")[0])
    is_own = name in ("policy", "policy_file") or bool(getattr(form, name, "")) or not form.policy.strip()
    if is_own and name in GateForm.model_fields:
        located.setdefault(name, detail)
    else:
        located.setdefault("policy", f"{path.replace('/', ' › ')}: {detail}")


def _read_json_text(text: str) -> str:
    value = _parse_json_text(text)
    if value is None:
        raise InvalidRequest.for_field(
            "/policy", "the text of the policy was not sent completely; choose the file again"
        )
    return value


def _parse_json_text(text: str) -> str | None:
    """Return the text in a JSON string, or None where it is none or is too long."""
    try:
        value = json.loads(text)
        if isinstance(value, str) and len(value) <= MOST_POLICY_TEXT and value.encode():  # refuses halves of characters
            return value
    except (ValueError, RecursionError):
        return None
    return None


def _write(policy: PolicyRequest) -> str:
    """Return the values of a policy that were set as YAML; as JSON where YAML reads back as another policy.

    PyYAML writes a few characters, such as U+0085, that it reads as spaces.
    """
    import yaml

    fields = policy.model_dump(mode="json", exclude_unset=True)
    if (epsilon := policy.scope.epsilon) is not None and parse_radius(written := format_radius(epsilon)) == epsilon:
        fields["scope"]["epsilon"] = written
    text: str = yaml.safe_dump(fields, allow_unicode=True, sort_keys=False)
    try:
        is_same = PolicyRequest.model_validate(parse_policy_text(text)) == policy
    except (InvalidRequest, ValidationError):
        is_same = False
    return text if is_same else json.dumps(fields, ensure_ascii=False, indent=2) + "\n"


def _read_percent(text: str) -> float:
    """Return a percentage as a rate. Raises: ValueError."""
    refusal = ValueError(f"{text[:_LONGEST]!r} is not a percentage; give a number from 0 to 100")
    try:
        percentage = Decimal(text.removesuffix("%").strip())
        is_allowed = 0 <= percentage <= 100
    except ArithmeticError:  # no number, or not a number (NaN)
        raise refusal from None
    if not is_allowed:
        raise refusal
    return float(percentage / 100) + 0.0  # -0.0 becomes 0.0


def _read_tolerance(text: str) -> float:
    """Return a fall in percentage points as a difference of rates. Raises: ValueError."""
    rate = _read_percent(text)
    if rate == 1:
        raise ValueError(f"{text[:_LONGEST]!r} is too large; give a number of points below 100")
    return rate


def _read_named_percents(text: str) -> dict[str, JsonValue]:
    """Return the rates by name from lines such as "stop sign = 40"; a name may have the sign =, too. Raises: ValueError."""
    rates: dict[str, JsonValue] = {}
    for line in filter(None, map(str.strip, unify_line_ends(text).split("\n"))):
        name, _, percentage = line.rpartition("=")
        if not name.strip():
            raise ValueError(f"{shorten(line, _LONGEST)!r} has no name and limit; write a line such as: cat = 40")
        if name.strip() in rates:
            raise ValueError(f"{shorten(name.strip(), _LONGEST)!r} is named twice; write one limit for each name")
        rates[name.strip()] = _read_percent(percentage.strip())
    return rates


_PARSERS: Mapping[str, Callable[[str], Any]] = {
    **dict.fromkeys(("min_worst", "min_robust", "min_clean", "max_gap"), _read_percent),
    "tolerance": _read_tolerance,
    **dict.fromkeys(("min_class", "min_group"), _read_named_percents),
    **dict.fromkeys(("attacks", "epsilon", "undecided"), str),
}
