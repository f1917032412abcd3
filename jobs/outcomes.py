"""What a job leaves behind beside its own row: reports, models, and uploads that become ready or rejected."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from sqlalchemy.orm import Session

from faal_core.specs import ClassifierSpec
from jobs.artifacts import record_artifact
from jobs.states import JobKind, UploadState
from jobs.storage import Stored
from jobs.tables import Dataset, Job, Model, Problem, Report

ENDS_WITH: Mapping[JobKind, tuple[frozenset[str], ...]] = MappingProxyType(
    {
        JobKind.AUDIT: (frozenset({"report"}),),
        JobKind.FINETUNE: (frozenset({"report", "result_model"}), frozenset({"report"})),
        JobKind.CHECK_MODEL: (frozenset({"result_model"}),),
        JobKind.MAKE_CANDIDATE: (frozenset({"result_model"}),),
        JobKind.CHECK_DATASET: (frozenset({"summary"}),),
    }
)
"""The results that each kind of job ends with when it succeeds: exactly one of these sets.

A fine-tuning makes no model where it keeps the original weights."""

_MAKE_READY = (JobKind.CHECK_MODEL, JobKind.MAKE_CANDIDATE)  # their own model, which waited for them


@dataclass(frozen=True, slots=True)
class StoredClassifier:
    """Weights in storage and what they are: what a fine-tuning or the check of a model made.

    Args:
        file: its SHA-256 is that of the safetensors file.
        weights_sha256: that of names, types, shapes and values, as reports have it.
    """

    file: Stored
    spec: ClassifierSpec
    weights_sha256: str
    name: str | None = None


def keep(
    session: Session,
    job: Job,
    *,
    report: str | None,
    result_model: StoredClassifier | None,
    summary: Mapping[str, Any] | None,
    trained: Stored | None = None,
    finding: Mapping[str, Any] | None = None,
) -> None:
    """The results of a job that succeeded are stored. Raises: ValueError when they are not those of its kind."""
    brought = {"report": report, "result_model": result_model, "summary": summary}
    names = {name for name, value in brought.items() if value is not None}
    if names not in ENDS_WITH[job.kind]:
        expected = " or ".join(str(sorted(results)) for results in ENDS_WITH[job.kind])
        raise ValueError(f"a {job.kind} job ends with {expected}, not with {sorted(names)}")
    if report is not None:
        keep_report(session, job, report)
    if result_model is not None:
        _keep_classifier(session, job, result_model)
    job.finding = None if finding is None else dict(finding)
    if trained is not None:
        record_artifact(session, trained)
        job.trained_sha256 = trained.sha256
    if summary is not None:
        dataset = session.get_one(Dataset, job.dataset)
        dataset.state, dataset.summary = UploadState.READY, dict(summary)


def keep_report(session: Session, job: Job, document: str) -> None:
    """The report is stored: of a job that succeeded, or of what a cancelled one had found."""
    session.add(Report(job_id=job.id, document=document))


def reject(session: Session, job: Job, problem: Problem) -> None:
    """The upload that this job was checking, if any, is rejected with that problem."""
    if job.kind in _MAKE_READY:
        model = session.get_one(Model, job.model_id)
        model.state, model.error, model.upload_sha256 = UploadState.REJECTED, problem, None
    elif job.kind is JobKind.CHECK_DATASET:
        dataset = session.get_one(Dataset, job.dataset)
        dataset.state, dataset.error, dataset.sha256 = UploadState.REJECTED, problem, None


def reject_cancelled(session: Session, job: Job) -> None:
    """Reject the upload that this cancelled job was checking, or the candidate's model that it was making, if any."""
    message = (
        "The job that made it was cancelled; ask for the candidate again."
        if job.kind is JobKind.MAKE_CANDIDATE
        else "Its check was cancelled; upload it again."
    )
    reject(session, job, {"code": "job-cancelled", "message": message})


def _keep_classifier(session: Session, job: Job, made: StoredClassifier) -> None:
    record_artifact(session, made.file)
    spec, checked = made.spec.model_dump(mode="json"), session.get_one(Model, job.model_id)
    if job.kind in _MAKE_READY:
        checked.state, checked.sha256, checked.spec = UploadState.READY, made.file.sha256, spec
        checked.weights_sha256, checked.upload_sha256 = made.weights_sha256, None
        return
    model = Model(
        name=made.name or checked.name,
        owner=job.owner,
        state=UploadState.READY,
        spec=spec,
        sha256=made.file.sha256,
        weights_sha256=made.weights_sha256,
        parent_model_id=job.model_id,
        parent_job_id=job.id,
    )
    session.add(model)
    session.flush()
    job.result_model_id = model.id
