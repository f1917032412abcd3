"""What a job would cost, before it is asked for."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from fastapi import APIRouter
from pydantic import Field

from api.access.authentication import SubmitterDep
from api.routes.jobs import submission_of
from api.schemas.requests import AuditRequest, FinetuneRequest
from api.schemas.resources import Resource
from faal_core import catalog
from faal_core.errors import InvalidSpec
from faal_core.results import cost
from faal_core.results.documents import AuditReport
from faal_core.results.reading import read_report
from jobs import queries, submission
from jobs.states import JobKind

router = APIRouter(tags=["jobs"])

_EXAMPLE = {
    "kind": "audit",
    "model": "model_0199c2f2a3d87b1e9f5a6c7d8e9f0a1b",
    "dataset": "cifar10",
    "threat": {"epsilon": "8/255"},
    "attacks": "standard",
}


class AuditEstimate(AuditRequest):
    """An audit that might be asked for."""

    kind: Literal["audit"]


class FinetuneEstimate(FinetuneRequest):
    """A fine-tuning that might be asked for."""

    kind: Literal["finetune"]


class EstimateResource(Resource):
    """What a job takes."""

    object: Literal["estimate"] = "estimate"
    passes: int = Field(description="of an image through the network, forward and backward ones, at most")
    minutes: float | None = Field(description="likely; null where no such network was audited here before")
    minutes_at_most: float | None = Field(
        description="if no attack breaks an image; weight perturbation and what some methods look at before an epoch apart"
    )
    measured_by: str | None = Field(description="the job whose report says how long a pass takes")


@router.post("/jobs/estimate", summary="What a job would take")
def estimate_job(
    body: Annotated[AuditEstimate | FinetuneEstimate, Field(discriminator="kind", examples=[_EXAMPLE])],
    service: SubmitterDep,
) -> EstimateResource:
    """Passes are counted; how long one takes, and which part of an audit's is needed, the newest report of the model says.

    Without one of its own that of another model of the same architecture. Starts nothing; validates exactly as a submission does.
    """
    kind = JobKind.FINETUNE if isinstance(body, FinetuneEstimate) else JobKind.AUDIT
    with service.sessions.begin() as session:
        inputs = submission.check(session, service.settings, submission_of(service, body, body.spec, kind))
        classes = inputs.model.spec["num_classes"]
        stored = queries.last_report(session, inputs.model)
    earlier = None if stored is None else _last_audit(stored.document)
    pace = None if earlier is None else cost.seconds_a_pass(earlier)
    images = _images(body.dataset, inputs.dataset_summary)
    if isinstance(body, FinetuneEstimate):
        audit = cost.of_audit(body.audit, images["test"], classes, earlier)
        parts = [audit, audit, cost.of_training(body.spec, images["train"], classes)]
    else:
        parts = [cost.of_audit(body.spec, images["test"], classes, earlier)]
    most, likely = (sum(part) for part in zip(*parts, strict=True))
    return EstimateResource(
        passes=int(most),
        minutes=None if pace is None else likely * pace / 60,
        minutes_at_most=None if pace is None else most * pace / 60,
        measured_by=None if stored is None or pace is None else stored.job_id,
    )


def _images(dataset: str, summary: Mapping[str, Any] | None) -> Mapping[str, int]:
    """How many images each part of the data set has. Raises: InvalidSpec where that is not known before it is loaded."""
    if summary is not None:
        return {"train": 0, **summary["images"]}
    train, test = catalog.dataset(dataset).images
    if not test:
        raise InvalidSpec(f"How many images {dataset} has is known only where it is loaded; nothing can be estimated.")
    return {"train": train, "test": test}


def _last_audit(document: str) -> AuditReport:
    report = read_report(document)
    return report if isinstance(report, AuditReport) else report.after
