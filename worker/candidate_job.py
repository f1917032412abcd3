"""The job that makes a model of a candidate: weights between a fine-tuning's given and trained ones, as its report lists them."""

from faal_core import weights
from faal_core.errors import InvalidSpec
from faal_core.results.finetune_documents import FinetuneReport
from faal_core.results.reading import read_report
from faal_core.training.candidates import candidate_classifier
from jobs import model_registry, queries
from jobs.model_registry import WEIGHTS_TYPE
from jobs.results import StoredClassifier
from worker.assignment import Assignment, JobResult
from worker.model_specs import read_spec


def run(assignment: Assignment) -> JobResult:
    """Return the candidate's weights. Raises: InvalidSpec, FileLost, StorageFull, StoreUnavailable."""
    job_id, number = assignment.job.spec["job"], assignment.job.spec["candidate"]
    model = assignment.read_model()
    finetuning = assignment.read(lambda session: queries.find_job(session, job_id))
    given_model = assignment.read(lambda session: model_registry.find_model(session, finetuning.model_id or ""))
    row = assignment.read(lambda session: queries.find_report(session, job_id))
    report = None if row is None else read_report(row.document)
    if not isinstance(report, FinetuneReport):
        raise InvalidSpec(
            f"The report of job {job_id} was removed before the candidate was made. Run the fine-tuning again."
        )
    trained = weights.read_classifier(assignment.fetch_file(model.upload_sha256), read_spec(given_model.spec))
    classifier = candidate_classifier(assignment.read_classifier(given_model), trained, report, number)
    file = assignment.folder / "candidate.safetensors"
    weights.write_classifier(file, classifier)
    stored_file, digest = assignment.store_file(file, WEIGHTS_TYPE), weights.digest(classifier)
    return JobResult(result_model=StoredClassifier(stored_file, classifier.spec, weights_sha256=digest))
