"""The use cases of studies, independent of HTTP. Routes call these functions."""

from api.schemas.rows import describe_page, describe_study, describe_study_with_runs
from api.schemas.studies import StudyRequest
from api.serving.dependencies import Service
from api.serving.use_cases import require_pool
from faal_client.resources.objects import Page
from faal_client.resources.studies import StudyResource, StudyWithRuns
from faal_core.results.method_table import read_reports, tabulate_methods
from faal_core.results.method_table_documents import MethodTable
from jobs import studies
from jobs.database import read_owner
from jobs.errors import JobStateConflict
from jobs.idempotency import payload_digest
from jobs.states import JobKind, JobState
from jobs.submission import Submission


def create_study(service: Service, request: StudyRequest, idempotency_key: str | None = None) -> StudyWithRuns:
    """Create a study with all of its jobs, and notify workers. Raises: the errors of `studies.add_study`; InvalidRequest."""
    require_pool(service, request.pool)
    with service.sessions.begin() as session:
        owner, specs = read_owner(session), request.specs
        fine_tunings = [
            Submission(
                kind=JobKind.FINETUNE,
                model_id=request.model,
                dataset=request.dataset,
                spec=spec.model_dump(mode="json"),
                owner=owner,
                submitted_by=service.key_name,
                max_priority=service.max_priority,
                **request.terms,
            )
            for spec in specs
        ]
        new = studies.NewStudy(
            name=request.name,
            methods=[spec.method.model_dump(mode="json") for spec in specs[:: len(request.seeds)]],
            seeds=request.seeds,
            fine_tunings=fine_tunings,
            idempotency_key=idempotency_key,
        )
        row = studies.add_study(session, service.settings, new)
        study = describe_study_with_runs(row, studies.list_runs(session, row.id))
    for run in study.runs:
        service.queue.ring(run.job, request.pool)
    return study


def list_studies(service: Service, *, after: str | None = None, limit: int) -> Page[StudyResource]:
    """Return the studies, newest first."""
    with service.sessions() as session:
        page = studies.list_studies(session, after=after, limit=limit)
        counts = studies.count_states(session, [row.id for row in page.data])
    return describe_page(page, lambda row: describe_study(row, counts[row.id]))


def get_study(service: Service, study_id: str) -> StudyWithRuns:
    """Return a study with its jobs. Raises: StudyNotFound."""
    with service.sessions() as session:
        return describe_study_with_runs(studies.find_study(session, study_id), studies.list_runs(session, study_id))


def require_possible_table(study: StudyWithRuns) -> None:
    """Check that a job of the study has succeeded or can still succeed. Raises: JobStateConflict."""
    if not has_table(study) and study.done == study.total:
        raise JobStateConflict(
            f"Study {study.id} has no job that has succeeded, so there is no table. Retry a job, or create another study."
        )


def has_table(study: StudyWithRuns) -> bool:
    """Return whether a job of the study has succeeded."""
    return study.states.get(JobState.SUCCEEDED, 0) > 0


def table_version(study: StudyWithRuns) -> str:
    """Return the digest of the jobs and the states that the table depends on."""
    return payload_digest({"runs": [(run.job, run.status) for run in study.runs]})


def build_table(service: Service, study_id: str) -> MethodTable:
    """Return the table of the jobs that have succeeded. Raises: InvalidSpec if these cannot be in one table."""
    with service.sessions() as session:
        jobs = studies.count_states(session, [study_id])[study_id]
        reports = read_reports(studies.read_reports(session, study_id))
        return tabulate_methods(reports, requested=sum(jobs.values()))


def cancel_study(service: Service, study_id: str) -> StudyWithRuns:
    """Cancel the jobs of a study that have not ended, and return the study. Raises: StudyNotFound."""
    with service.sessions.begin() as session:
        studies.cancel(session, study_id)
        return describe_study_with_runs(studies.find_study(session, study_id), studies.list_runs(session, study_id))


def delete_study(service: Service, study_id: str) -> None:
    """Delete a study; its jobs stay. Raises: StudyNotFound."""
    with service.sessions.begin() as session:
        studies.remove_study(session, study_id)
