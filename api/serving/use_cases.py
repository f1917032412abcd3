"""The use cases of jobs, models and data sets, independent of HTTP. Routes and pages call these functions.

Each function commits its own transaction before it notifies a worker or removes files. Uploads are in
api/uploads/registration.py.
"""

from typing import Unpack

from api.problems.errors import InvalidRequest
from api.problems.hidden_secrets import SHARED
from api.schemas.requests import AuditRequest, CompareRequest, FinetuneRequest, LinkRequest
from api.schemas.rows import describe_dataset, describe_job, describe_link, describe_model, describe_page
from api.serving.dependencies import Service
from faal_client.resources.links import LinkResource, NewLink
from faal_client.resources.objects import DatasetResource, JobResource, ModelResource, Page
from jobs import candidates, control, dataset_registry, links, model_registry, queries, removal, submission
from jobs.database import read_owner
from jobs.job_order import NEWEST_FIRST
from jobs.keys import site_secret
from jobs.queries import JobFilters
from jobs.states import CHECKS, JobKind
from jobs.submission import Submission

PAGE_LENGTH = 20  # items in a page of a list, unless the caller says otherwise

# Jobs


def make_submission(
    service: Service, owner: str, request: FinetuneRequest | AuditRequest, idempotency_key: str | None = None
) -> Submission:
    """Convert the owner's request to a submission. Raises: InvalidRequest for a pool that the site does not have."""
    require_pool(service, request.pool)
    return Submission(
        kind=JobKind.FINETUNE if isinstance(request, FinetuneRequest) else JobKind.AUDIT,
        model_id=request.model,
        dataset=request.dataset,
        spec=request.spec.model_dump(mode="json"),
        transfer_from=request.transfer_from if isinstance(request, AuditRequest) else (),
        owner=owner,
        submitted_by=service.key_name,
        max_priority=service.max_priority,
        idempotency_key=idempotency_key,
        **request.terms,
    )


def submit_job(
    service: Service, request: FinetuneRequest | AuditRequest, idempotency_key: str | None = None
) -> JobResource:
    """Submit a job and notify a worker. Raises: the errors of `submission.submit` and `make_submission`."""
    with service.sessions.begin() as session:
        wanted = make_submission(service, read_owner(session), request, idempotency_key)
        job = describe_job(submission.submit(session, service.settings, wanted))
    service.queue.ring(job.id, job.pool)
    return job


def submit_comparison(service: Service, request: CompareRequest, idempotency_key: str | None = None) -> JobResource:
    """Submit a comparison and notify a worker. Raises: the errors of `submission.submit`."""
    with service.sessions.begin() as session:
        comparison = Submission(
            kind=JobKind.COMPARE,
            spec={"jobs": list(request.jobs)},
            owner=read_owner(session),
            submitted_by=service.key_name,
            max_priority=service.max_priority,
            metadata=request.metadata,
            idempotency_key=idempotency_key,
        )
        job = describe_job(submission.submit(session, service.settings, comparison))
    service.queue.ring(job.id)
    return job


def list_jobs(
    service: Service,
    *,
    after: str | None = None,
    limit: int = PAGE_LENGTH,
    order: str = NEWEST_FIRST,
    **filters: Unpack[JobFilters],
) -> Page[JobResource]:
    """Return the jobs that match all filters, in that order. Raises: JobNotFound, as `queries.list_jobs`."""
    with service.sessions() as session:
        page = queries.list_jobs(session, after=after, limit=limit, order=order, **filters)
    return describe_page(page, describe_job)


def cancel_job(service: Service, job_id: str) -> JobResource:
    """Cancel a job; the file of an upload whose check was cancelled is removed. Raises: JobNotFound, JobStateConflict."""
    with service.sessions.begin() as session:
        job = describe_job(control.cancel(session, job_id))
    if job.kind in CHECKS:
        removal.try_collect(service.sessions, service.storage)
    return job


def pause_job(service: Service, job_id: str) -> JobResource:
    """Pause a job. Raises: JobNotFound, JobStateConflict."""
    with service.sessions.begin() as session:
        return describe_job(control.pause(session, job_id))


def resume_job(service: Service, job_id: str) -> JobResource:
    """Queue a paused job again and notify a worker. Raises: JobNotFound, JobStateConflict."""
    with service.sessions.begin() as session:
        job = describe_job(control.resume(session, job_id))
    service.queue.ring(job.id, job.pool)
    return job


def retry_job(service: Service, job_id: str, idempotency_key: str | None = None) -> JobResource:
    """Submit the request of a job that failed or was cancelled again as a new job, and notify a worker.

    Raises: the errors of `control.retry`; InvalidRequest for a pool that the site no longer has.
    """
    with service.sessions.begin() as session:
        row = control.retry(
            session,
            service.settings,
            job_id,
            owner=read_owner(session),
            idempotency_key=idempotency_key,
            max_priority=service.max_priority,
            submitted_by=service.key_name,
        )
        job = describe_job(row)
        require_pool(service, job.pool)
    service.queue.ring(job.id, job.pool)
    return job


def delete_job(service: Service, job_id: str) -> None:
    """Delete a job with its events, its report and its files. Raises: the errors of `removal.remove_job`."""
    with service.sessions.begin() as session:
        removal.remove_job(session, job_id)
    removal.try_collect(service.sessions, service.storage)


def require_pool(service: Service, pool: str | None) -> None:
    """Check that the site has the pool of workers. Raises: InvalidRequest."""
    offered = service.settings.offered_pools
    if pool is not None and pool not in offered:
        remedy = (
            f"choose one of {', '.join(offered)}, or leave it out" if offered else "this site has none; leave it out"
        )
        raise InvalidRequest.for_field("/pool", f"there is no pool {pool!r}; {remedy}")


# Links to reports


def share_report(service: Service, job_id: str, request: LinkRequest, site: str) -> NewLink:
    """Make a link to the report of a job. Raises: the errors of `links.add_link`.

    Args:
        site: address of the service as its clients know it, with a slash at the end.
    """
    with service.sessions.begin() as session:
        link, token = links.add_link(
            session,
            site_secret(service.settings),
            job_id,
            seconds=request.expires_in,
            created_by=service.key_name,
        )
        return NewLink(url=f"{site.removesuffix('/')}{SHARED}{token}", about=describe_link(link))


def list_links(service: Service, job_id: str, *, after: str | None = None, limit: int) -> Page[LinkResource]:
    """Return the valid links to the report of a job, newest first. Raises: JobNotFound."""
    with service.sessions() as session:
        return describe_page(links.list_links(session, job_id, after=after, limit=limit), describe_link)


def revoke_link(service: Service, job_id: str, link_id: str) -> None:
    """Revoke a link to the report of a job. Raises: JobNotFound, LinkNotFound."""
    with service.sessions.begin() as session:
        links.remove_link(session, job_id, link_id)


# Models


def make_candidate(service: Service, job_id: str, number: int) -> ModelResource:
    """Return the model of a candidate, and notify a worker if it is not made yet. Raises: as `candidates.make_model`."""
    with service.sessions.begin() as session:
        row, job = candidates.make_model(
            session, job_id, number, quota=service.settings.quota, submitted_by=service.key_name
        )
        model, new_job = describe_model(row), None if job is None else job.id
    if new_job is not None:
        service.queue.ring(new_job)
    return model


def get_model(service: Service, model_id: str) -> ModelResource:
    """Return a model. Raises: ModelNotFound."""
    with service.sessions() as session:
        return describe_model(model_registry.find_model(session, model_id))


def list_models(service: Service, *, after: str | None = None, limit: int = PAGE_LENGTH) -> Page[ModelResource]:
    """Return the models, newest first."""
    with service.sessions() as session:
        page = model_registry.list_models(session, after=after, limit=limit)
    return describe_page(page, describe_model)


def list_lineage(service: Service, model_id: str, *, after: str | None = None, limit: int) -> Page[ModelResource]:
    """Return a model, the model it was fine-tuned from, and so on to the uploaded model. Raises: ModelNotFound."""
    with service.sessions() as session:
        page = model_registry.list_lineage(session, model_id, after=after, limit=limit)
        return describe_page(page, describe_model)


def delete_model(service: Service, model_id: str) -> ModelResource:
    """Delete a model's weights; the model is kept as `deleted`. Raises: ModelNotFound, InUse."""
    with service.sessions.begin() as session:
        model = describe_model(removal.remove_model(session, model_id))
    removal.try_collect(service.sessions, service.storage)
    return model


# Data sets


def list_datasets(service: Service, *, after: str | None = None, limit: int = PAGE_LENGTH) -> Page[DatasetResource]:
    """Return the uploaded data sets, newest first."""
    with service.sessions() as session:
        page = dataset_registry.list_datasets(session, after=after, limit=limit)
    return describe_page(page, describe_dataset)


def delete_dataset(service: Service, dataset_id: str) -> DatasetResource:
    """Delete a data set's file; the data set is kept as `deleted`. Raises: DatasetNotFound, InUse."""
    with service.sessions.begin() as session:
        dataset = describe_dataset(removal.remove_dataset(session, dataset_id))
    removal.try_collect(service.sessions, service.storage)
    return dataset
