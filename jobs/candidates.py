"""Models of the candidates in a fine-tuning's report, which a worker makes on request."""

from sqlalchemy import select
from sqlalchemy.orm import Session

from faal_core.results.finetune_documents import FinetuneReport
from faal_core.results.reading import read_report
from jobs.errors import CandidateNotFound, JobStateConflict
from jobs.idempotency import payload_digest
from jobs.moves import add_job, lock_job
from jobs.quotas import require_room_for_job
from jobs.settings import Quota
from jobs.states import JobKind, JobState, UploadState
from jobs.submission import require_model_ready
from jobs.tables import Job, Model, Report

_USABLE = (UploadState.VALIDATING, UploadState.READY)


def make_model(
    session: Session, job_id: str, number: int, *, quota: Quota, submitted_by: str | None = None
) -> tuple[Model, Job | None]:
    """Return the model of a candidate, and the queued job that makes it: None where there is such a model already.

    The given weights and the selected ones are the job's own models. Ring after the commit.

    Args:
        number: the candidate's index in the report, from 0.

    Raises: JobNotFound; JobStateConflict where the job has no candidates, or its trained weights were not stored;
        CandidateNotFound; ModelNotReady where the given model was deleted; QuotaExceeded.
    """
    job = lock_job(session, job_id)
    report = _report(session, job)
    if number >= len(report.candidates):
        last = len(report.candidates) - 1
        raise CandidateNotFound(f"Job {job_id} has no candidate {number}; its report has candidates 0 to {last}.")
    existing = list_models(session, job, report).get(number)
    if existing is not None:
        return existing, None
    given_model = require_model_ready(session, job.model_id or "")
    if job.trained_sha256 is None:
        raise JobStateConflict(
            f"The trained weights of job {job_id} were not stored, so its candidates cannot be made. Run the fine-tuning again."
        )
    require_room_for_job(session, job.owner, JobKind.MAKE_CANDIDATE, quota)
    model = Model(
        name=f"{given_model.name} + {report.spec.method.type}, candidate {number}",
        owner=job.owner,
        state=UploadState.VALIDATING,
        spec=given_model.spec,
        upload_sha256=job.trained_sha256,
        parent_model_id=given_model.id,
        parent_job_id=job.id,
        candidate=number,
    )
    session.add(model)
    session.flush()
    spec = {"job": job.id, "candidate": number}
    digest = payload_digest({"kind": JobKind.MAKE_CANDIDATE, **spec})
    new_job = Job(
        kind=JobKind.MAKE_CANDIDATE,
        owner=job.owner,
        model_id=model.id,
        spec=spec,
        submitted_by=submitted_by,
        payload_sha256=digest,
    )
    return model, add_job(session, new_job)


def list_models(session: Session, job: Job, report: FinetuneReport) -> dict[int, Model]:
    """Return the existing models of a fine-tuning's candidates, by the candidates' numbers."""
    query = select(Model).where(Model.parent_job_id == job.id, Model.candidate.is_not(None), Model.state.in_(_USABLE))
    models = {model.candidate: model for model in session.scalars(query) if model.candidate is not None}
    for number, own in {selected_candidate(report): job.result_model_id, 0: job.model_id}.items():
        model = None if own is None else session.get(Model, own)
        if number is not None and model is not None and model.state in _USABLE:
            models[number] = model
    return models


def selected_candidate(report: FinetuneReport) -> int | None:
    """Return the number of the selected candidate; None where there is none.

    Reports written before the number was recorded are searched for the candidate with the selected values.
    """
    if report.selected_candidate is not None:
        return report.selected_candidate
    selected = (report.selected_interpolation, report.selected_offset_scale)
    return next(
        (number for number, one in enumerate(report.candidates) if (one.interpolation, one.offset_scale) == selected),
        None,
    )


def can_make(session: Session, job: Job) -> bool:
    """Return whether models of this fine-tuning's candidates can be made.

    Their trained weights and the given model must be there.
    """
    given_model = None if job.model_id is None else session.get(Model, job.model_id)
    return job.trained_sha256 is not None and given_model is not None and given_model.state is UploadState.READY


def _report(session: Session, job: Job) -> FinetuneReport:
    """Return the report of a fine-tuning that had candidates. Raises: JobStateConflict."""
    if job.kind is not JobKind.FINETUNE or job.state is not JobState.SUCCEEDED:
        raise JobStateConflict(
            f"Job {job.id} has no candidates: it is {job.kind} and {job.state}. Choose a fine-tuning that has succeeded."
        )
    report = read_report(session.get_one(Report, job.id).document)
    if not isinstance(report, FinetuneReport) or not report.candidates:
        raise JobStateConflict(
            f"The fine-tuning {job.id} has no candidates, since its spec sets no bounds. Run it again with bounds."
        )
    return report
