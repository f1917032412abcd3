"""The only Celery task: a message says that a job waits, and the most urgent one is run."""

from celery import Celery

from jobs.queue import RUN_JOB
from worker.supervisor import Supervisor


def bind(app: Celery, supervisor: Supervisor) -> None:
    """The app's task `faal.run_job` has `supervisor` run a job: the one that was rung for, or one that comes before it."""

    @app.task(name=RUN_JOB)  # type: ignore[untyped-decorator]  # Celery has no types
    def run_job(_job_id: str) -> None:
        supervisor.run_next()
