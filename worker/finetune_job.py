"""The fine-tuning job: a stored model and a data set → the report and a new model."""

from dataclasses import replace

from faal_core import weights
from faal_core.finetune import finetune, training_checkpoint
from faal_core.specs import FinetuneSpec
from faal_core.training.ranks import Ranks
from faal_core.training.recipe import train
from jobs.outcomes import StoredClassifier
from worker.assignment import WEIGHTS_TYPE, Assignment, Outcome, with_ids
from worker.ranks import fellows


def run(assignment: Assignment) -> Outcome:
    """Return the report, and the new model unless the original weights are kept; a later attempt resumes the one before.

    Raises: what `faal_core.finetune` raises, StorageFull and Cancelled.
    """
    model = assignment.model()
    with fellows(assignment) as ranks:
        finetuned = finetune(
            assignment.classifier(model),
            assignment.images("train"),
            assignment.images("test"),
            FinetuneSpec.model_validate(assignment.job.spec),
            name=model.name,
            device=ranks.device,
            checkpoint=assignment.folder,
            progress=assignment.progress,
            ranks=ranks,
        )
    report, trained = finetuned.report, None
    if report.candidates:
        best = assignment.folder / "trained.safetensors"
        weights.write_classifier(best, finetuned.trained)
        trained = assignment.keep(best, WEIGHTS_TYPE)
    finding = {"outcome": report.outcome, "falls": len(report.falls)}
    kept_original = report.outcome == "kept-original"
    audits = {
        "before": with_ids(report.before, job_id=assignment.job.id, model_id=model.id),
        "after": with_ids(report.after, job_id=assignment.job.id, model_id=model.id if kept_original else None),
    }
    outcome = Outcome(report=report.model_copy(update=audits).model_dump_json(), trained=trained, finding=finding)
    if kept_original:
        return outcome
    file = assignment.folder / "result.safetensors"
    weights.write_classifier(file, finetuned.classifier)
    after, stored = report.after.classifier, assignment.keep(file, WEIGHTS_TYPE)
    result = StoredClassifier(stored, finetuned.classifier.spec, weights_sha256=after.sha256, name=after.name)
    return replace(outcome, result_model=result)


def take_part(assignment: Assignment, ranks: Ranks) -> None:
    """Nothing: a process that does not lead computes its share of the training."""
    train(
        assignment.classifier(assignment.model()),
        assignment.images("train"),
        FinetuneSpec.model_validate(assignment.job.spec),
        device=ranks.device,
        checkpoint=training_checkpoint(assignment.folder),
        ranks=ranks,
    )
