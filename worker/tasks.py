"""The only Celery task: a message says that a job waits, and the worker runs the job whose turn it is."""

import logging

from celery import Celery

from jobs.queue import RUN_JOB
from worker.supervisor import Supervisor

logger = logging.getLogger(__name__)


def bind(app: Celery, supervisor: Supervisor) -> None:
    """Give the app its task `faal.run_job`: `supervisor` runs the job whose turn it is."""

    @app.task(name=RUN_JOB)  # type: ignore[untyped-decorator]  # Celery has no types
    def run_job(_job_id: str) -> None:
        if not supervisor.run_next():
            logger.info("no job waits")
