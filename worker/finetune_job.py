"""The fine-tuning job: a stored model and a data set → the report and a new model."""

from faal_core import weights
from faal_core.finetune import finetune
from faal_core.specs import FinetuneSpec
from jobs.outcomes import StoredClassifier
from worker.assignment import WEIGHTS_TYPE, Assignment, Outcome


def run(assignment: Assignment) -> Outcome:
    """The report and the repaired model; a later attempt goes on after the last epoch of the one before.

    Raises: what `faal_core.finetune` raises, StorageFull and Cancelled.
    """
    model = assignment.model()
    finetuned = finetune(
        assignment.classifier(model),
        assignment.images("train"),
        assignment.images("test"),
        FinetuneSpec.model_validate(assignment.job.spec),
        name=model.name,
        device=assignment.device,
        checkpoint=assignment.folder,
        progress=assignment.progress,
    )
    file = assignment.folder / "result.safetensors"
    weights.write_classifier(file, finetuned.classifier)
    result = StoredClassifier(
        assignment.keep(file, WEIGHTS_TYPE), finetuned.classifier.spec, name=finetuned.report.after.classifier.name
    )
    return Outcome(report=finetuned.report.model_dump_json(), result_model=result)
