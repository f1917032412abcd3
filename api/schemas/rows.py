"""Turn rows of the tables into the bodies of answers."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from faal_client.resources.keys import KeyResource
from faal_client.resources.links import LinkResource
from faal_client.resources.objects import (
    Amount,
    ClassifierBody,
    DatasetResource,
    ErrorBody,
    EventResource,
    JobResource,
    ModelResource,
    Page,
    Resource,
)
from faal_client.resources.plans import Change, PlanHistory, PlanResource, PlanRunResource, WorstClass
from faal_client.resources.studies import StudyResource, StudyRunResource, StudyWithRuns
from faal_client.resources.uploads import PartResource, UploadResource
from faal_client.resources.webhooks import MessageResource, WebhookResource
from faal_client.vocabulary import RunTrigger, Scope
from jobs import paging, webhooks
from jobs.plan_tables import Plan, PlanRun
from jobs.states import FINAL, JobState
from jobs.study_tables import Study, StudyRun
from jobs.tables import (
    ApiKey,
    Dataset,
    Job,
    JobEvent,
    Model,
    PartialUpload,
    ReportLink,
    UploadPart,
    Webhook,
    WebhookMessage,
)

Item = TypeVar("Item", bound=Resource)
Row = TypeVar("Row")


def describe_page(page: paging.Page[Row], describe: Callable[[Row], Item]) -> Page[Item]:
    """Return the page with an item for each row."""
    return Page(data=[describe(row) for row in page.data], has_more=page.has_more, last_id=page.last_id)


def describe_error(stored: Mapping[str, object] | None) -> ErrorBody | None:
    """Return the error that a row has, or None."""
    return None if stored is None else ErrorBody.model_validate(stored)


def describe_progress(job: Job) -> Amount | None:
    """Return the progress of a running job's stage, or None."""
    if job.state is not JobState.RUNNING or job.done is None:
        return None
    return Amount(done=job.done, total=job.total, seconds_left=job.seconds_left)


def describe_job(job: Job) -> JobResource:
    """Return the job of a row."""
    return JobResource(
        id=job.id,
        kind=job.kind,
        status=job.state,
        model=job.model_id,
        dataset=job.dataset,
        spec=job.spec,
        metadata=job.metadata_,
        priority=job.priority,
        pool=job.pool,
        budget_minutes=job.budget_minutes,
        deadline=job.deadline,
        seconds_run=job.seconds_run,
        gpu_bytes=job.gpu_bytes,
        stage=job.stage if job.state is JobState.RUNNING else None,
        progress=describe_progress(job),
        helpers=job.helpers,
        attempt=job.attempt,
        cancel_requested=job.cancel_requested,
        pause_requested=job.pause_requested,
        retry_of=job.retry_of,
        submitted_by=job.submitted_by,
        result_model=job.result_model_id,
        outcome=(job.finding or {}).get("outcome"),
        falls=(job.finding or {}).get("falls"),
        robust_mean=job.robust_mean,
        robust_worst=job.robust_worst,
        worst_class=job.worst_class,
        error=describe_error(job.error),
        created_at=job.created_at,
        started_at=job.started_at,
        finished_at=job.finished_at,
    )


def describe_event(event: JobEvent) -> EventResource:
    """Return the event of a row."""
    return EventResource(seq=event.seq, at=event.created_at, kind=event.kind, body=event.body)


def describe_model(model: Model) -> ModelResource:
    """Return the model of a row."""
    return ModelResource(
        id=model.id,
        name=model.name,
        status=model.state,
        spec=ClassifierBody.model_validate(model.spec),
        sha256=model.weights_sha256,
        file_sha256=model.sha256,
        parent_model=model.parent_model_id,
        parent_job=model.parent_job_id,
        candidate=model.candidate,
        error=describe_error(model.error),
        created_at=model.created_at,
    )


def describe_dataset(dataset: Dataset) -> DatasetResource:
    """Return the data set of a row."""
    return DatasetResource(
        id=dataset.id,
        name=dataset.name,
        status=dataset.state,
        sha256=dataset.sha256,
        summary=dataset.summary,
        error=describe_error(dataset.error),
        created_at=dataset.created_at,
    )


def describe_upload(upload: PartialUpload, parts: list[UploadPart]) -> UploadResource:
    """Return the upload of a row, with the rows of its parts."""
    return UploadResource(
        id=upload.id,
        size=upload.size,
        part_bytes=upload.part_bytes,
        parts=[PartResource(number=part.number, size=part.size, sha256=part.sha256) for part in parts],
        sha256=upload.sha256,
        created_at=upload.created_at,
    )


def describe_key(row: ApiKey) -> KeyResource:
    """Return the key of a row."""
    return KeyResource(
        id=row.id,
        owner=row.owner,
        name=row.name,
        scopes=[Scope(scope) for scope in row.scopes],
        max_priority=row.max_priority,
        created_at=row.created_at,
        expires_at=row.expires_at,
        revoked_at=row.revoked_at,
    )


def describe_link(row: ReportLink) -> LinkResource:
    """Return the link of a row."""
    return LinkResource(
        id=row.id, job=row.job_id, created_by=row.created_by, created_at=row.created_at, expires_at=row.expires_at
    )


def describe_webhook(row: Webhook) -> WebhookResource:
    """Return the webhook of a row."""
    return WebhookResource(id=row.id, url=row.url, created_at=row.created_at, disabled_at=row.disabled_at)


def describe_message(row: WebhookMessage) -> MessageResource:
    """Return the message of a row."""
    return MessageResource(
        id=row.id,
        type=row.kind,
        status=webhooks.message_state(row),
        tries=row.tries,
        answer=row.status,
        error=row.error,
        next_try_at=row.due_at,
        created_at=row.created_at,
        delivered_at=row.delivered_at,
    )


def describe_plan(row: Plan) -> PlanResource:
    """Return the plan of a row."""
    return PlanResource(**_plan_fields(row))


def describe_plan_history(row: Plan, runs: Sequence[tuple[PlanRun, JobState | None]]) -> PlanHistory:
    """Return the plan of a row, with its runs and the states of their audits."""
    return PlanHistory(**_plan_fields(row), runs=[describe_plan_run(run, state) for run, state in runs])


def _plan_fields(row: Plan) -> dict[str, Any]:
    return {
        "id": row.id,
        "name": row.name,
        "model_name": row.model_name,
        "dataset": row.dataset,
        "spec": row.spec,
        "policy": row.policy,
        "every_hours": row.every_hours,
        "next_run_at": row.due_at if row.paused_at is None else None,
        "baseline": row.baseline_job_id,
        "current_run": row.run_job_id,
        "paused_at": row.paused_at,
        "error": describe_error(row.error),
        "created_at": row.created_at,
    }


def describe_plan_run(row: PlanRun, status: JobState | None) -> PlanRunResource:
    """Return the run of a row, with the state of its audit."""
    return PlanRunResource(
        job=row.job_id,
        model=row.model_id,
        trigger=RunTrigger(row.trigger),
        status=status,
        worst_class=None if row.worst_class is None else WorstClass(**row.worst_class),
        robust_mean=row.robust_mean,
        gate=row.gate,
        baseline=row.baseline_job_id,
        comparison=row.comparison_id,
        verdict=row.verdict,
        worst_change=None if row.worst_change is None else Change(**row.worst_change),
        mean_change=None if row.mean_change is None else Change(**row.mean_change),
        falls=row.falls,
        doubtful=row.doubtful,
        doubtful_falls=row.doubtful_falls,
        error=describe_error(row.error),
        created_at=row.created_at,
    )


def describe_study(row: Study, counts: Mapping[JobState | None, int]) -> StudyResource:
    """Return the study of a row, with the number of its jobs in each state; None counts deleted jobs."""
    return StudyResource(**_study_fields(row, counts))


def describe_study_with_runs(row: Study, runs: Sequence[tuple[StudyRun, Job | None]]) -> StudyWithRuns:
    """Return the study of a row, with its runs and their jobs."""
    counts = Counter(None if job is None else job.state for _, job in runs)
    return StudyWithRuns(**_study_fields(row, counts), runs=[_describe_study_run(run, job) for run, job in runs])


def _study_fields(row: Study, counts: Mapping[JobState | None, int]) -> dict[str, Any]:
    return {
        "id": row.id,
        "name": row.name,
        "model": row.model_id,
        "dataset": row.dataset,
        "methods": row.methods,
        "seeds": row.seeds,
        "total": sum(counts.values()),
        "done": sum(jobs for state, jobs in counts.items() if state is None or state in FINAL),
        "states": {state: jobs for state, jobs in counts.items() if state is not None},
        "deleted": counts.get(None, 0),
        "created_at": row.created_at,
    }


def _describe_study_run(run: StudyRun, job: Job | None) -> StudyRunResource:
    described = None if job is None else describe_job(job)
    names = ("status", "stage", "progress", "outcome", "robust_worst", "robust_mean", "result_model", "error")
    fields = {name: getattr(described, name, None) for name in names}
    return StudyRunResource(job=run.job_id, method=run.method, seed=run.seed, **fields)
