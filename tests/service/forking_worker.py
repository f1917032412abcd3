"""`python -m tests.service.forking_worker`: a worker for many short jobs.

Each job has a process of its own that runs the same code as those of the real worker. It is forked from this one, which has
imported torch already, and so starts three seconds sooner. This worker renews no leases and listens to no messages.
"""

import os
import time

from sqlalchemy import select

from jobs import lifecycle
from jobs.database import Sessions, open_database
from jobs.settings import Settings
from jobs.states import JobState
from jobs.tables import Job
from worker import job_process

AT_ONCE = 6
LEASE_SECONDS = 120.0


def main() -> None:
    """Run jobs until killed; the children end with this process."""
    settings = Settings()
    sessions = open_database(settings.database_url, pooled=False)
    running: set[int] = set()
    while True:
        running -= {pid for pid in running if os.waitpid(pid, os.WNOHANG)[0]}
        job = _claim_latest(sessions) if len(running) < AT_ONCE else None
        if job is None:
            time.sleep(0.05)
        else:
            running.add(_start_process(job.id, job.attempt))


def _claim_latest(sessions: Sessions) -> Job | None:
    """Claim a waiting job, the latest first; the real worker starts with the oldest."""
    with sessions.begin() as session:
        lifecycle.take_back(session)
        waiting = select(Job.id).where(Job.state == JobState.QUEUED).order_by(Job.id.desc())
        for job_id in session.scalars(waiting).all():
            if (job := lifecycle.claim(session, job_id, worker="forking", lease_seconds=LEASE_SECONDS)) is not None:
                return job
    return None


def _start_process(job_id: str, attempt: int) -> int:
    """Start the process that runs the job, and return its number."""
    parent = os.getpid()
    if (pid := os.fork()) == 0:
        os.setsid()  # as those of the real worker
        try:
            job_process.main(job_id, attempt, parent)
        finally:
            os._exit(0)
    return pid


if __name__ == "__main__":
    main()
