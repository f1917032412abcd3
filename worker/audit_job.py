"""The audit job: a stored model and a data set's test images → the report."""

from faal_core.audit import audit
from faal_core.specs import AuditSpec
from worker.assignment import Assignment, Outcome


def run(assignment: Assignment) -> Outcome:
    """The audit's report. Raises: what `faal_core.audit` raises, and Cancelled."""
    model = assignment.model()
    audited = audit(
        assignment.classifier(model),
        assignment.images("test"),
        AuditSpec.model_validate(assignment.job.spec),
        name=model.name,
        device=assignment.device,
        progress=assignment.progress,
    )
    return Outcome(report=audited.report.model_dump_json())
