"""The fine-tuning job: a stored model and a data set → the report and a new model."""

from faal_core import weights
from faal_core.finetune import finetune, training_checkpoint
from faal_core.specs import FinetuneSpec
from faal_core.training.ranks import Ranks
from faal_core.training.recipe import train
from jobs.outcomes import StoredClassifier
from worker.assignment import WEIGHTS_TYPE, Assignment, Outcome, with_ids
from worker.fellows import fellows


def run(assignment: Assignment) -> Outcome:
    """The report and the repaired model; a later attempt goes on after the last epoch of the one before.

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
    file = assignment.folder / "result.safetensors"
    weights.write_classifier(file, finetuned.classifier)
    result = StoredClassifier(
        assignment.keep(file, WEIGHTS_TYPE), finetuned.classifier.spec, name=finetuned.report.after.classifier.name
    )
    before, after = finetuned.report.before, finetuned.report.after
    audits = {
        "before": with_ids(before, job_id=assignment.job.id, model_id=model.id),
        "after": with_ids(after, job_id=assignment.job.id, model_id=None),
    }
    return Outcome(report=finetuned.report.model_copy(update=audits).model_dump_json(), result_model=result)


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
