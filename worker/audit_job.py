"""The audit job: a stored model and a data set's test images → the report and the outcome of each image."""

from typing import Final

from faal_core.auditing.reliability import digest_training_images
from faal_core.auditing.run import run_audit
from faal_core.specs import AuditSpec
from worker.assignment import Assignment, JobResult, identify
from worker.audit_sharing import open_executors

PART: Final = "test"


def run(assignment: Assignment) -> JobResult:
    """Return the audit's report; a later attempt resumes after the last batch of the attempt before.

    Raises: the errors of `faal_core.auditing.run`, StorageFull, StoreUnavailable and Cancelled.
    """
    return _result(assignment, compute=True)


def result_so_far(assignment: Assignment) -> JobResult:
    """Return the report of the results of all attempts so far, and the outcomes of its images.

    Raises: InvalidSpec where these are too few for a report; StorageFull, StoreUnavailable.
    """
    return _result(assignment, compute=False)


def _result(assignment: Assignment, *, compute: bool) -> JobResult:
    model, spec = assignment.read_model(), AuditSpec.model_validate(assignment.job.spec)
    audited = run_audit(
        assignment.read_classifier(model),
        assignment.load_images(PART),
        spec,
        name=model.name,
        device=assignment.device,
        ledger=assignment.folder / "audit.ledger",
        compute=compute,
        progress=assignment.progress if compute else None,
        executors=open_executors(assignment) if compute else None,
        sources=assignment.read_sources(spec.attacks),
        trained_on=digest_training_images(assignment.dataset_reference, PART, root=assignment.settings.dataset_root),
    )
    report = identify(audited.report, assignment.job, model_id=model.id)
    return JobResult(report.model_dump_json(), outcomes=assignment.store_outcomes(report, audited.outcomes))
