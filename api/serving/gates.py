"""Judge the reports of jobs by policies. Routes and pages call these functions."""

from collections.abc import Mapping
from pathlib import PurePath
from typing import TYPE_CHECKING, Literal, NamedTuple

from fastapi import Response

from api.problems.errors import InvalidRequest
from api.serving.dependencies import Service
from faal_core.reports.gate_formats import junit, markdown, sarif
from faal_core.results.documents import AuditReport
from faal_core.results.gates.documents import GateResult
from faal_core.results.reading import REPORT, read_any_report
from faal_core.specs import Policy
from jobs import queries

if TYPE_CHECKING:
    from faal_core.results.gates.baseline import PairedAudits

Format = Literal["json", "junit", "sarif", "markdown"]


class FormatFile(NamedTuple):
    """The media type and the ending of a file with the result of a gate."""

    media_type: str
    ending: str


FORMATS: Mapping[Format, FormatFile] = {
    "json": FormatFile("application/json", "json"),
    "junit": FormatFile("application/xml", "xml"),
    "sarif": FormatFile("application/sarif+json", "sarif"),
    "markdown": FormatFile("text/markdown", "md"),
}


def find_audit(service: Service, job_id: str) -> "tuple[AuditReport, PairedAudits | None]":
    """Return the audit that a gate judges in the report of a job, and the comparison with its baseline, if there is one.

    Raises: the errors of `queries.require_report`; InvalidSpec for a table of models, and for a comparison of different images.
    """
    from faal_core.results.gates.pairing import separate  # imported here, since SciPy takes a fraction of a second

    with service.sessions() as session:
        document = queries.require_report(session, job_id).document
    return separate(read_any_report(document))


def judge_job(service: Service, job_id: str, policy: Policy) -> GateResult:
    """Return the result of a policy for the report of a job.

    Raises: the errors of `find_audit`; InvalidRequest without a baseline that the policy needs; InvalidSpec for unknown names.
    """
    from faal_core.results.gates.judging import judge_audit

    audit, paired = find_audit(service, job_id)
    if policy.baseline is not None and paired is None:
        raise InvalidRequest.for_field(
            "/baseline",
            f"job {job_id} is an audit without a baseline; compare it with an earlier audit by `POST /jobs/compare`, and judge "
            "the comparison",
        )
    return judge_audit(policy, audit, paired)


def answer_with_result(result: GateResult, form: Format, job_id: str) -> Response:
    """Return the response that downloads a result in one of the `FORMATS`."""
    match form:
        case "json":
            content = result.model_dump_json(indent=2)
        case "junit":
            content = junit.render(result)
        case "sarif":
            content = sarif.render(result, PurePath(REPORT))
        case "markdown":
            content = markdown.render(result)
    file = FORMATS[form]
    headers = {"Content-Disposition": f'attachment; filename="gate-{job_id}.{file.ending}"'}
    return Response(content, media_type=file.media_type, headers=headers)
