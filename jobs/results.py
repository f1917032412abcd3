"""The results of a job beside its own row: reports, models, and uploads that become ready or rejected."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from sqlalchemy.orm import Session

from faal_core.specs import ClassifierSpec
from jobs.artifacts import record_artifact
from jobs.states import AUDITING, JobKind, UploadState
from jobs.storage import StoredFile
from jobs.tables import Dataset, Job, Model, Problem, Report, ReportOutcomes

RESULTS: Mapping[JobKind, tuple[frozenset[str], ...]] = MappingProxyType(
    {
        JobKind.AUDIT: (frozenset({"report"}),),
        JobKind.COMPARE: (frozenset({"report"}),),
        JobKind.FINETUNE: (frozenset({"report", "result_model"}), frozenset({"report"})),
        JobKind.CHECK_MODEL: (frozenset({"result_model"}),),
        JobKind.MAKE_CANDIDATE: (frozenset({"result_model"}),),
        JobKind.CHECK_DATASET: (frozenset({"summary"}),),
    }
)
"""The results that each kind of job ends with when it succeeds: exactly one of these sets.

A fine-tuning makes no model if it keeps the original weights."""

_MODEL_KINDS = (JobKind.CHECK_MODEL, JobKind.MAKE_CANDIDATE)  # they make the model in `Job.model_id` ready


@dataclass(frozen=True, slots=True)
class StoredClassifier:
    """Weights in storage and their spec: what a fine-tuning, a candidate's job or the check of a model made.

    Args:
        file: its SHA-256 is that of the safetensors file.
        weights_sha256: that of names, types, shapes and values, as in reports.
    """

    file: StoredFile
    spec: ClassifierSpec
    weights_sha256: str
    name: str | None = None


def store_results(
    session: Session,
    job: Job,
    *,
    report: str | None,
    outcomes: Mapping[str, StoredFile],
    result_model: StoredClassifier | None,
    summary: Mapping[str, Any] | None,
    trained: StoredFile | None = None,
    finding: Mapping[str, Any] | None = None,
) -> None:
    """Store the results of a job that succeeded. Raises: ValueError when they are not those of its kind."""
    results = {"report": report, "result_model": result_model, "summary": summary}
    names = {name for name, value in results.items() if value is not None}
    if names not in RESULTS[job.kind]:
        expected = " or ".join(str(sorted(options)) for options in RESULTS[job.kind])
        raise ValueError(f"a {job.kind} job ends with {expected}, not with {sorted(names)}")
    if report is not None:
        store_report(session, job, report, outcomes)
    if result_model is not None:
        _store_classifier(session, job, result_model)
    job.finding = None if finding is None else dict(finding)
    if trained is not None:
        record_artifact(session, trained)
        job.trained_sha256 = trained.sha256
    if summary is not None:
        dataset = session.get_one(Dataset, job.dataset)
        dataset.state, dataset.summary = UploadState.READY, dict(summary)


def store_report(session: Session, job: Job, document: str, outcomes: Mapping[str, StoredFile]) -> None:
    """Store the report of a job that succeeded, or of a cancelled one's results so far, and its main figures for lists.

    Args:
        outcomes: files with the outcomes of the images of each audit in the report, by name.
    """
    session.add(Report(job_id=job.id, document=document))
    for name, stored in outcomes.items():
        record_artifact(session, stored)
        session.add(ReportOutcomes(job_id=job.id, name=name, owner=job.owner, sha256=stored.sha256))
    report = json.loads(document)
    robust = report.get("after", report).get("robust")
    if job.kind in AUDITING and robust is not None:
        job.robust_mean, job.robust_worst = robust["mean"]["rate"], robust["worst"]["value"]
        job.worst_class = robust["worst_class"]


def reject_upload(session: Session, job: Job, problem: Problem) -> None:
    """Reject the upload that this job was checking, if any, with that problem."""
    if job.kind in _MODEL_KINDS:
        model = session.get_one(Model, job.model_id)
        model.state, model.error, model.upload_sha256 = UploadState.REJECTED, problem, None
    elif job.kind is JobKind.CHECK_DATASET:
        dataset = session.get_one(Dataset, job.dataset)
        dataset.state, dataset.error, dataset.sha256 = UploadState.REJECTED, problem, None


def reject_cancelled_upload(session: Session, job: Job) -> None:
    """Reject the upload that this cancelled job was checking, or the candidate's model that it was making, if any."""
    message = (
        "The job that made this candidate was cancelled. Ask for the candidate again."
        if job.kind is JobKind.MAKE_CANDIDATE
        else "The check of this upload was cancelled. Upload the file again."
    )
    reject_upload(session, job, {"code": "job-cancelled", "message": message})


def _store_classifier(session: Session, job: Job, classifier: StoredClassifier) -> None:
    record_artifact(session, classifier.file)
    spec, model = classifier.spec.model_dump(mode="json"), session.get_one(Model, job.model_id)
    if job.kind in _MODEL_KINDS:
        model.state, model.sha256, model.spec = UploadState.READY, classifier.file.sha256, spec
        model.weights_sha256, model.upload_sha256 = classifier.weights_sha256, None
        return
    result = Model(
        name=classifier.name or model.name,
        owner=job.owner,
        state=UploadState.READY,
        spec=spec,
        sha256=classifier.file.sha256,
        weights_sha256=classifier.weights_sha256,
        parent_model_id=job.model_id,
        parent_job_id=job.id,
    )
    session.add(result)
    session.flush()
    job.result_model_id = result.id
