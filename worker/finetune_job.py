"""The fine-tuning job: a stored model and a data set → the report and a new model."""

from dataclasses import replace

from faal_core import weights
from faal_core.finetuning.run import run_finetuning, training_checkpoint
from faal_core.results.course import FinetuneCourse
from faal_core.specs import FinetuneSpec
from faal_core.training.ranks import Ranks
from faal_core.training.recipe import train
from jobs.model_registry import WEIGHTS_TYPE
from jobs.results import StoredClassifier
from worker.assignment import Assignment, JobResult, identify
from worker.audit_sharing import open_executors
from worker.ranks import start_rank_processes


def run(assignment: Assignment) -> JobResult:
    """Return the report, and the new model unless the original weights are kept; a later attempt resumes the one before.

    Raises: the errors of `faal_core.finetuning`, StorageFull and Cancelled.
    """
    model, spec = assignment.read_model(), FinetuneSpec.model_validate(assignment.job.spec)
    with start_rank_processes(assignment) as ranks:
        classifier = assignment.read_classifier(model)
        training_data, test_data = assignment.load_images("train"), assignment.load_images("test")
        course = FinetuneCourse(spec, len(training_data), len(test_data), classifier.num_classes)
        assignment.progress.follow(course)
        finetuned = run_finetuning(
            classifier,
            training_data,
            test_data,
            spec,
            name=model.name,
            device=ranks.device,
            checkpoint=assignment.folder,
            progress=assignment.progress,
            ranks=ranks,
            executors=open_executors(assignment),
        )
    report, trained = finetuned.report, None
    if report.candidates:
        best = assignment.folder / "trained.safetensors"
        weights.write_classifier(best, finetuned.trained_classifier)
        trained = assignment.store_file(best, WEIGHTS_TYPE)
    finding = {"outcome": report.outcome, "falls": len(report.falls)}
    kept_original = report.outcome == "kept-original"
    audits = {
        "before": identify(report.before, assignment.job, model_id=model.id),
        "after": identify(report.after, assignment.job, model_id=model.id if kept_original else None),
    }
    result = JobResult(
        report=report.model_copy(update=audits).model_dump_json(),
        outcomes=assignment.store_outcomes(report, *finetuned.outcomes),
        trained=trained,
        finding=finding,
    )
    if kept_original:
        return result
    file = assignment.folder / "result.safetensors"
    weights.write_classifier(file, finetuned.classifier)
    after, stored = report.after.classifier, assignment.store_file(file, WEIGHTS_TYPE)
    result_model = StoredClassifier(stored, finetuned.classifier.spec, weights_sha256=after.sha256, name=after.name)
    return replace(result, result_model=result_model)


def train_as_rank(assignment: Assignment, ranks: Ranks) -> None:
    """Compute this rank's part of the training; the process of rank 0 stores the result."""
    train(
        assignment.read_classifier(assignment.read_model()),
        assignment.load_images("train"),
        FinetuneSpec.model_validate(assignment.job.spec),
        device=ranks.device,
        checkpoint=training_checkpoint(assignment.folder),
        ranks=ranks,
    )
