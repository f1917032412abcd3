"""The audit job: a stored model and a data set's test images → the report."""

from typing import Final

from faal_core.audit.reliability import training_digests
from faal_core.audit.run import audit
from faal_core.specs import AuditSpec
from worker.assignment import Assignment, Outcome, with_ids

PART: Final = "test"


def run(assignment: Assignment) -> Outcome:
    """The audit's report; a later attempt goes on after the last batch of the one before.

    Raises: what `faal_core.audit.run` raises, and Cancelled.
    """
    return Outcome(report=_report(assignment, compute=True))


def report_so_far(assignment: Assignment) -> str:
    """The report of what the attempts so far have found. Raises: InvalidSpec where that is too little for one."""
    return _report(assignment, compute=False)


def _report(assignment: Assignment, *, compute: bool) -> str:
    model = assignment.model()
    audited = audit(
        assignment.classifier(model),
        assignment.images(PART),
        AuditSpec.model_validate(assignment.job.spec),
        name=model.name,
        device=assignment.device,
        ledger=assignment.folder / "audit.ledger",
        compute=compute,
        progress=assignment.progress if compute else None,
        trained_on=training_digests(assignment.dataset_reference, PART, root=assignment.settings.dataset_root),
    )
    return with_ids(audited.report, job_id=assignment.job.id, model_id=model.id).model_dump_json()
