"""The only Celery task: a message names a job, and the job is run."""

from celery import Celery

from jobs.queue import RUN_JOB
from worker.supervisor import Supervisor


def bind(app: Celery, supervisor: Supervisor) -> None:
    """The app's task `faal.run_job` hands the job to `supervisor`."""

    @app.task(name=RUN_JOB)  # type: ignore[untyped-decorator]  # Celery has no types
    def run_job(job_id: str) -> None:
        supervisor.run(job_id)
