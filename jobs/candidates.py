"""Models of the candidates in a fine-tuning's report: weights that could have been kept, made by a worker when asked for."""

from sqlalchemy import select
from sqlalchemy.orm import Session

from faal_core.results.finetune_documents import FinetuneReport
from faal_core.results.reading import read_report
from jobs.errors import CandidateNotFound, JobStateConflict
from jobs.idempotency import payload_digest
from jobs.moves import add, locked
from jobs.quotas import require_room_for_job
from jobs.settings import Quota
from jobs.states import JobKind, JobState, UploadState
from jobs.submission import require_model_ready
from jobs.tables import Job, Model, Report

_USABLE = (UploadState.VALIDATING, UploadState.READY)


def make_model(session: Session, job_id: str, number: int, *, quota: Quota) -> tuple[Model, Job | None]:
    """Return the model of a candidate, and the queued job that makes it: None where there is such a model already.

    The given weights and those that were kept are the job's own models. Ring after the commit.

    Args:
        number: the candidate's place in the report, from 0.

    Raises: JobNotFound; JobStateConflict where the job has no candidates, or its trained weights were not stored;
        CandidateNotFound; ModelNotReady where the given model was deleted; QuotaExceeded.
    """
    job = locked(session, job_id)
    report = _report(session, job)
    if number >= len(report.candidates):
        last = len(report.candidates) - 1
        raise CandidateNotFound(f"Job {job_id} has no candidate {number}; its report has candidates 0 to {last}.")
    made = models(session, job, report).get(number)
    if made is not None:
        return made, None
    given = require_model_ready(session, job.model_id or "")
    if job.trained_sha256 is None:
        raise JobStateConflict(
            f"The trained weights of job {job_id} were not stored, so no candidate can be made of them."
        )
    require_room_for_job(session, job.owner, JobKind.MAKE_CANDIDATE, quota)
    model = Model(
        name=f"{given.name} + {report.spec.method.type}, candidate {number}",
        owner=job.owner,
        state=UploadState.VALIDATING,
        spec=given.spec,
        upload_sha256=job.trained_sha256,
        parent_model_id=given.id,
        parent_job_id=job.id,
        candidate=number,
    )
    session.add(model)
    session.flush()
    asked = {"job": job.id, "candidate": number}
    digest = payload_digest({"kind": JobKind.MAKE_CANDIDATE, **asked})
    return model, add(
        session,
        Job(kind=JobKind.MAKE_CANDIDATE, owner=job.owner, model_id=model.id, spec=asked, payload_sha256=digest),
    )


def models(session: Session, job: Job, report: FinetuneReport) -> dict[int, Model]:
    """Return the models that there are of a fine-tuning's candidates, by their numbers."""
    made = select(Model).where(Model.parent_job_id == job.id, Model.candidate.is_not(None), Model.state.in_(_USABLE))
    found = {model.candidate: model for model in session.scalars(made) if model.candidate is not None}
    for number, own in {kept_number(report): job.result_model_id, 0: job.model_id}.items():
        model = None if own is None else session.get(Model, own)
        if number is not None and model is not None and model.state in _USABLE:
            found[number] = model
    return found


def kept_number(report: FinetuneReport) -> int | None:
    """Return the number of the candidate that was kept, also in reports written before it was recorded; None without one."""
    if report.selected_candidate is not None:
        return report.selected_candidate
    kept = (report.selected_share, report.selected_offsets)
    return next((number for number, one in enumerate(report.candidates) if (one.share, one.offsets) == kept), None)


def can_make(session: Session, job: Job) -> bool:
    """Return whether models of this fine-tuning's candidates can be made: its trained weights and its given model are there."""
    given = None if job.model_id is None else session.get(Model, job.model_id)
    return job.trained_sha256 is not None and given is not None and given.state is UploadState.READY


def _report(session: Session, job: Job) -> FinetuneReport:
    """Return the report of a fine-tuning that had candidates. Raises: JobStateConflict."""
    if job.kind is not JobKind.FINETUNE or job.state is not JobState.SUCCEEDED:
        raise JobStateConflict(f"Job {job.id} is no fine-tuning that has succeeded; only these have candidates.")
    report = read_report(session.get_one(Report, job.id).document)
    if not isinstance(report, FinetuneReport) or not report.candidates:
        raise JobStateConflict(f"The fine-tuning {job.id} looked at no candidates: its spec sets no bounds.")
    return report
