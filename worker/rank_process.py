"""`python -m worker.rank_process JOB ATTEMPT LEADER`: a rank of the training of the job whose process is LEADER."""

import os
import sys

from structlog.contextvars import bind_contextvars

from faal_core import catalog
from faal_core.lifetime import end_with_parent
from faal_core.training.ranks import join_ranks
from jobs import logs
from jobs.database import open_database
from jobs.settings import Settings
from worker import finetune_job
from worker.job_process import open_assignment
from worker.outages import ask_database


def main(job_id: str, attempt: int, leader: int) -> None:
    """Compute this rank's part of the training. Raises: LeaseLost; the training's errors."""
    end_with_parent(leader)
    settings = Settings()
    catalog.offer_networks(settings.networks)
    logs.configure(settings.log_format)
    bind_contextvars(job_id=job_id, attempt=attempt)
    sessions = open_database(settings.database_url, pooled=False)
    assignment = ask_database(lambda: open_assignment(settings, sessions, job_id, attempt))
    with join_ranks(os.environ, assignment.device) as ranks:
        finetune_job.train_as_rank(assignment, ranks)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
    os._exit(0)  # all is done; now and then a thread of gloo aborts a process while Python clears up
