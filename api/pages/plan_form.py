"""The form that creates a plan from an audit. Its fields become a request to the API, with the same validation."""

from collections.abc import Mapping
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError

from api.pages.gate_form import TOO_LONG, unify_line_ends
from api.problems.errors import InvalidRequest
from api.schemas.packs import MOST_POLICY_TEXT
from api.schemas.requests import PlanRequest
from api.serving.policy_text import parse_policy_text
from faal_client.resources.problems import Problem
from faal_core.errors import DatasetMissing, InvalidSpec, UnknownName
from jobs.errors import DatasetNotFound, DatasetNotReady, ModelNotFound, ModelNotReady

_FIELDS_OF_CODES = {
    ModelNotFound.code: "model_name",
    ModelNotReady.code: "model_name",
    DatasetNotFound.code: "dataset",
    DatasetNotReady.code: "dataset",
    DatasetMissing.code: "dataset",
    UnknownName.code: "dataset",
    InvalidSpec.code: "dataset",
}
_FIELDS_OF_POLICY = ("min_class: ", "min_group: ")  # that a refusal for a name in the policy begins with


class PlanForm(BaseModel):
    """The fields of the form as text; an empty field is an empty string."""

    # A browser sends two characters for the end of a line. `request` reports texts that are too long.
    model_config = ConfigDict(frozen=True, str_max_length=2 * MOST_POLICY_TEXT)

    like: Annotated[str, Field(max_length=200)] = ""  # id of the audit whose settings the plan takes
    name: str = ""
    model_name: str = ""
    dataset: str = ""
    every_hours: str = ""
    policy: str = ""

    @classmethod
    def for_audit(cls, audit_id: str, model_name: str, dataset: str) -> Self:
        """Return the form for the versions of that model on the data set of the audit."""
        return cls(like=audit_id, name=model_name, model_name=model_name, dataset=dataset)

    def request(self, spec: Mapping[str, Any]) -> PlanRequest:
        """Return the form as a request to the API, with the settings of an audit. Raises: InvalidRequest."""
        for name in ("name", "model_name", "dataset"):
            if any(sign < " " or sign == "\x7f" for sign in getattr(self, name)):
                raise InvalidRequest.for_field(f"/{name}", "the text has a tab or another control character; remove it")
        policy = unify_line_ends(self.policy)
        if len(policy) > MOST_POLICY_TEXT:
            raise InvalidRequest.for_field("/policy", TOO_LONG)
        fields: dict[str, JsonValue] = {
            **spec,
            "name": self.name.strip(),
            "model_name": self.model_name,
            "dataset": self.dataset,
            "every_hours": self.every_hours.strip() or None,
            "policy": parse_policy_text(policy) if policy.strip() else None,
        }
        try:
            return PlanRequest.model_validate(fields)
        except ValidationError as error:
            raise InvalidRequest.from_pydantic(error, fields) from None


def locate_errors(problem: Problem) -> dict[str, str]:
    """Return the messages of a problem by the form's fields, in the order of the form."""
    located: dict[str, str] = {}
    for error in problem.errors or ():
        name, _, place = (error.pointer or "").removeprefix("/").partition("/")
        located.setdefault(name, f"{place.replace('/', '.')}: {error.detail}" if place else error.detail)
    if not problem.errors and (name := _FIELDS_OF_CODES.get(problem.code, "")):
        located["policy" if problem.detail.startswith(_FIELDS_OF_POLICY) else name] = problem.detail
    return {name: located[name] for name in PlanForm.model_fields if name in located}
