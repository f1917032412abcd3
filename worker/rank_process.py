"""`python -m worker.rank_process JOB ATTEMPT LEADER`: takes part in the training of the job whose process is LEADER."""

import os
import sys

from structlog.contextvars import bind_contextvars

from faal_core.training.ranks import joined
from jobs import logs
from jobs.database import open_database
from jobs.settings import Settings
from worker import finetune_job
from worker.job_process import assignment_of
from worker.outages import ask_database
from worker.process_group import end_with


def main(job_id: str, attempt: int, leader: int) -> None:
    """Nothing: what comes of it is the leader's. Raises: LeaseLost; what the training raises."""
    end_with(leader)
    settings = Settings()
    logs.configure(settings.log_format)
    bind_contextvars(job_id=job_id, attempt=attempt)
    sessions = open_database(settings.database_url, pooled=False)
    assignment = ask_database(lambda: assignment_of(settings, sessions, job_id, attempt))
    with joined(os.environ, assignment.device) as ranks:
        finetune_job.take_part(assignment, ranks)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
    os._exit(0)  # all is done; now and then a thread of gloo aborts a process while Python clears up
