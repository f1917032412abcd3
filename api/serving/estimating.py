"""Estimate the cost of a job from its request, and from the newest report about its model or architecture."""

from collections.abc import Mapping
from typing import Any

from api.schemas.requests import AuditRequest, FinetuneRequest
from api.serving.dependencies import Service
from api.serving.use_cases import make_submission
from faal_client.resources.objects import EstimateResource
from faal_core import catalog
from faal_core.errors import InvalidSpec
from faal_core.results import cost
from faal_core.results.reading import newest_audit, read_report
from faal_core.specs import AuditSpec
from jobs import queries, submission
from jobs.database import read_owner


def estimate_cost(service: Service, body: FinetuneRequest | AuditRequest) -> EstimateResource:
    """Return the estimated cost of a job. Raises: the errors of `submission.check`; InvalidSpec for unknown numbers of images."""
    with service.sessions.begin() as session:
        inputs = submission.check(session, service.settings, make_submission(service, read_owner(session), body))
        classes = inputs.model.spec["num_classes"]
        stored = queries.find_last_report(session, inputs.model)
    earlier = None if stored is None else newest_audit(read_report(stored.document))
    pace = None if earlier is None else cost.seconds_per_pass(earlier)
    images = _images(body.dataset, inputs.dataset_summary)
    if isinstance(body, FinetuneRequest):
        audit = cost.audit_cost(body.audit, images["test"], classes, earlier)
        parts = [audit, audit, cost.training_cost(body.spec, images["train"], classes)]
    else:
        parts = [cost.audit_cost(AuditSpec.model_validate(inputs.spec), images["test"], classes, earlier)]
    most, likely = (sum(part) for part in zip(*parts, strict=True))
    return EstimateResource(
        passes=int(most),
        minutes=None if pace is None else likely * pace / 60,
        minutes_at_most=None if pace is None else most * pace / 60,
        measured_by=None if stored is None or pace is None else stored.job_id,
    )


def _images(dataset: str, summary: Mapping[str, Any] | None) -> Mapping[str, int]:
    """Return the number of images in each part of the data set. Raises: InvalidSpec if only loading it shows the number."""
    if summary is not None:
        return {"train": 0, **summary["images"]}
    train, test = catalog.dataset(dataset).images
    if not test:
        raise InvalidSpec(
            f"The number of images in {dataset!r} is unknown until a job loads it. Choose another one, or submit the job itself."
        )
    return {"train": train, "test": test}
