"""`python -m worker.helper_process JOB IDENTITY WORKER FOLDER PARENT`: computes batches of another worker's audit.

It needs no lease of the job. Each batch that it claims has a lease of its own, which the supervisor renews.
"""

import logging
import sys
from functools import partial
from pathlib import Path

import torch
from structlog.contextvars import bind_contextvars

from faal_core import catalog
from faal_core.auditing.processes import Executors
from faal_core.lifetime import end_with_parent
from jobs import logs, queries
from jobs.database import Sessions, open_database
from jobs.settings import Settings
from jobs.sharing import AuditKey
from jobs.sharing_tables import SharedAudit
from jobs.tables import Job
from worker.batch_helper import BatchHelper
from worker.helping import OTHER_ENVIRONMENT, OTHER_WORK
from worker.inputs import JobInputs
from worker.outages import ask_database
from worker.shared_work import SharedWork, WorkDiffers, describe_environment, rebuild_work

logger = logging.getLogger(__name__)


def main(job_id: str, identity: str, worker: str, folder: str, parent: int) -> None:
    """Compute batches of the audit until it ends, or no batch was open for a while.

    Args:
        folder: for copies of files in storage; the supervisor removes it.
    Raises: SystemExit with `OTHER_ENVIRONMENT` or `OTHER_WORK`; the errors of the computation, after which the leader computes
        the batches itself.
    """
    end_with_parent(parent)
    settings = Settings()
    catalog.offer_networks(settings.networks)
    logs.configure(settings.log_format)
    bind_contextvars(job_id=job_id, helper=worker)
    sessions, key = open_database(settings.database_url), AuditKey(job_id, identity)
    found = ask_database(partial(_find, sessions, key))
    if found is None:
        return
    job, audit = found
    inputs, shared = JobInputs(job, settings, sessions, Path(folder)), SharedWork.model_validate(audit.body)
    if audit.environment != (own := describe_environment(inputs.device)):
        logger.info("the environment %s is not that of the job, %s", own, audit.environment)
        sys.exit(OTHER_ENVIRONMENT)
    if shared.threads > torch.get_num_threads():
        logger.info("the job computes with %d threads, and this worker has %d", shared.threads, torch.get_num_threads())
        sys.exit(OTHER_WORK)
    try:
        work = rebuild_work(shared, inputs)
    except WorkDiffers as reason:
        logger.warning("%s", reason)
        sys.exit(OTHER_WORK)
    # With several threads a batch is computed in this process, as it is in the leader.
    with Executors(settings.processes if shared.threads == 1 else 1)(work) as executor:
        torch.set_num_threads(shared.threads)  # after the choice of processes, of which each has one thread
        BatchHelper(executor, sessions, key, worker, settings.lease_seconds).run()


def _find(sessions: Sessions, key: AuditKey) -> tuple[Job, SharedAudit] | None:
    with sessions() as session:
        audit = session.get(SharedAudit, key)
        return None if audit is None else (queries.find_job(session, key.job_id), audit)


if __name__ == "__main__":
    _job_id, _identity, _worker, _folder, _parent = sys.argv[1:]
    main(_job_id, _identity, _worker, _folder, int(_parent))
