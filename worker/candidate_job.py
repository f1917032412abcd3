"""The job that makes a model of a candidate: the weights between a fine-tuning's ends that its report tells of."""

from faal_core import weights
from faal_core.errors import InvalidSpec
from faal_core.results.finetune_documents import FinetuneReport
from faal_core.results.reading import read_report
from faal_core.specs import ClassifierSpec
from faal_core.training.candidates import candidate_classifier
from jobs import model_registry, queries
from jobs.outcomes import StoredClassifier
from worker.assignment import WEIGHTS_TYPE, Assignment, Outcome


def run(assignment: Assignment) -> Outcome:
    """Return the candidate's weights. Raises: InvalidSpec, FileLost, StorageFull, StoreUnavailable."""
    job_id, number = assignment.job.spec["job"], assignment.job.spec["candidate"]
    model = assignment.model()
    finetuning = assignment.read(lambda session: queries.job(session, job_id))
    given = assignment.read(lambda session: model_registry.model(session, finetuning.model_id or ""))
    stored = assignment.read(lambda session: queries.report(session, job_id))
    report = None if stored is None else read_report(stored.document)
    if not isinstance(report, FinetuneReport):
        raise InvalidSpec(f"The report of job {job_id} was removed before the candidate was made.")
    trained = weights.read_classifier(assignment.file(model.upload_sha256), ClassifierSpec.model_validate(given.spec))
    made = candidate_classifier(assignment.classifier(given), trained, report, number)
    file = assignment.folder / "candidate.safetensors"
    weights.write_classifier(file, made)
    stored_file, digest = assignment.keep(file, WEIGHTS_TYPE), weights.digest(made)
    return Outcome(result_model=StoredClassifier(stored_file, made.spec, weights_sha256=digest))
