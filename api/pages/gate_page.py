"""The page on which a report is checked against limits, and the downloads of the result and of the evidence pack."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Any

from fastapi import Form, Request, Response, UploadFile
from pydantic import BaseModel, ConfigDict

from api.access.authentication import ReaderDep
from api.pages.gate_form import MORE_REQUIREMENTS, GateForm, JsonText, WrittenPolicy, locate_errors, read_file
from api.pages.page_route import REFUSALS, describe_problem, page_router, show_refusal
from api.pages.templating import templates
from api.problems.errors import InvalidRequest
from api.schemas.packs import MOST_POLICY_TEXT, PackRequest
from api.schemas.rows import describe_job
from api.serving import gates, packs
from api.serving.dependencies import Id, Service
from faal_core.reports.gate_formats import words
from faal_core.results.gates.documents import AuditIdentity, GateResult
from faal_core.specs.policy import STRENGTH
from jobs import queries

router = page_router()

VERDICTS = {"pass": "met", "fail": "not met", "undecided": "undecided"}
SHOWN_NAMES = 12  # classes in the hint of a field


class PackForm(BaseModel):
    """The form that downloads a pack.

    Args:
        policy_json: as in `GateForm`.
        policy_signature: file that `faal sign` wrote for the policy.
    """

    model_config = ConfigDict(frozen=True)

    policy_json: JsonText = ""
    policy_signature: UploadFile | None = None


class GateQuery(GateForm):
    """The form, and the format to download its result in; without a format, the page shows the result."""

    format: gates.Format | None = None


@router.get("/ui/jobs/{id}/gate")
def show_gate(request: Request, job_id: Id, service: ReaderDep) -> Response:
    """Show the form of limits."""
    return templates.TemplateResponse(request, "gate.html", _gate(service, job_id, GateForm()))


@router.post("/ui/jobs/{id}/gate")
def judge_from_page(request: Request, job_id: Id, service: ReaderDep, form: Annotated[GateQuery, Form()]) -> Response:
    """Show the result of the limits, or download it in the chosen format; or show the form again with its errors."""
    filled: GateForm = form
    try:
        filled = form.with_file()
        policy = filled.read()
        result = gates.judge_job(service, job_id, policy.policy)
    except REFUSALS as refusal:
        return _show_errors(request, service, job_id, filled, refusal)
    if form.format is not None:
        return gates.answer_with_result(result, form.format, job_id)
    filling = _gate(service, job_id, filled) | _describe_result(result, policy)
    return templates.TemplateResponse(request, "gate.html", filling)


@router.post("/ui/jobs/{id}/pack")
def pack_from_page(request: Request, job_id: Id, service: ReaderDep, form: Annotated[PackForm, Form()]) -> Response:
    """Download the evidence pack of a report, with the policy that was judged; or show the page again with the error."""
    filled = GateForm()
    try:
        filled = GateForm(policy_json=form.policy_json).with_file()
        signature = read_file("policy_signature", form.policy_signature)
        if signature is not None and not filled.policy:
            raise InvalidRequest.for_field(
                "/policy", "there is no policy to sign; check the report against limits first"
            )
        pack = packs.pack_job(service, job_id, PackRequest(policy=filled.policy or None, policy_signature=signature))
    except REFUSALS as refusal:
        return _show_errors(request, service, job_id, filled, refusal, _judge_again(service, job_id, filled))
    return packs.answer_with_pack(pack)


def _show_errors(
    request: Request,
    service: Service,
    job_id: str,
    form: GateForm,
    refusal: Exception,
    result: Mapping[str, Any] = MappingProxyType({}),
) -> Response:
    """Show the page with an error.

    Args:
        result: as from `_describe_result`, if there is one. Without it the page has no field for a signature.
    """
    problem = describe_problem(request, refusal)
    filling = _gate(service, job_id, form) | {"errors": locate_errors(problem, form), **result}
    of_signature = [error.detail for error in problem.errors or () if error.pointer == "/policy_signature"]
    if of_signature and result:
        filling["errors"] = {"policy_signature": of_signature[0]}
    return show_refusal(request, "gate.html", filling, refusal)


def _judge_again(service: Service, job_id: str, form: GateForm) -> dict[str, Any]:
    """Return the result of a policy whose pack was refused, so that the page still shows it; nothing without a result."""
    if not form.policy:
        return {}
    try:
        policy = form.read()
        return _describe_result(gates.judge_job(service, job_id, policy.policy), policy)
    except REFUSALS:
        return {}


def _gate(service: Service, job_id: str, form: GateForm) -> dict[str, Any]:
    """Return what the page shows without a result. Raises: the errors of `gates.find_audit`."""
    audit, paired = gates.find_audit(service, job_id)
    with service.sessions() as session:
        job = describe_job(queries.find_job(session, job_id))
    names = [row.name for row in audit.classes]
    return {
        "job": job,
        "audit": words.describe(AuditIdentity.from_report(audit)),
        "baseline": None if paired is None else words.describe(AuditIdentity.from_report(paired.baseline)),
        "class_names": names[:SHOWN_NAMES],
        "more_classes": len(names) > SHOWN_NAMES,
        "columns": [table.column for table in audit.groups],
        "presets": STRENGTH,
        "more_requirements": MORE_REQUIREMENTS,
        "signer": service.signer,
        "obstacle": packs.find_obstacle(service, job_id),
        "most_text": MOST_POLICY_TEXT,
        "form": form,
        "result": None,
        "problem": None,
        "errors": {},
    }


def _describe_result(result: GateResult, policy: WrittenPolicy) -> dict[str, Any]:
    return {
        "result": result,
        "conclusion": words.conclusion(result),
        "rows": [*words.violations(result), *(one for one in result.requirements if one.status == "pass")],
        "words": words,
        "verdicts": VERDICTS,
        "policy": policy,
    }
