"""Measure how much faster an audit is when idle workers help, also when some of them are killed.

    python -m benchmarks.helping_workers [--quick] [--workers N] [--killed N]

The site has PostgreSQL and Redis, and workers of one process and one thread on one machine. The network takes 2 ms for each
image and almost no processor, so eight workers on two cores act as eight devices of a known speed. One audit is run by one
worker, by all workers, and by all workers of which some are killed (`kill -9`) midway. The benchmark compares the seconds of
the whole job, and of its second half, when all workers have started. It checks that the three reports are equal, times apart.
The last line is JSON.
"""

import argparse
import json
import os
import platform
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from jobs.states import FINAL, JobState
from tests.servers import postgres_server, redis_server
from tests.service.processes import Site, SiteProcess
from tests.service.sleeping_jobs import NETWORKS, submit_sleeping_audit
from tests.service.small_jobs import timeless

_LOOK_SECONDS = 0.05
_STEPS, _MICROSECONDS = 10, 2000
_IMAGES, _RESTARTS = 640, 80
_QUICK_IMAGES, _QUICK_RESTARTS = 400, 1


class Run(NamedTuple):
    """Describes one run of the audit.

    Args:
        seconds: from the first progress to the end.
        second_half: of the images and restarts of the attack.
        helpers: the most workers that helped at a time.
    """

    seconds: float
    second_half: float
    helpers: int
    report: object


def run_audit(site: Site, images: int, restarts: int, at_half: Callable[[str], None]) -> Run:
    """Run the audit on the site's workers; call `at_half` with the job's id when half is done."""
    job_id = submit_sleeping_audit(site, images=images, microseconds=_MICROSECONDS, steps=_STEPS, restarts=restarts)
    site.queue.ring(job_id)
    start = half = None
    helpers = 0
    while (job := site.job(job_id)).state not in FINAL:
        helpers = max(helpers, job.helpers)
        if start is None and job.done:
            start = time.monotonic()
        if (
            half is None
            and job.stage not in (None, "starting", "clean")
            and job.total
            and 2 * (job.done or 0) >= job.total
        ):
            half = time.monotonic()
            at_half(job_id)
        time.sleep(_LOOK_SECONDS)
    end = time.monotonic()
    assert job.state is JobState.SUCCEEDED, site.tell()
    assert start is not None, "the audit ended before it was seen"
    assert half is not None, "the audit ended before it was seen"
    return Run(end - start, end - half, helpers, timeless(site.report(job_id)))


def main() -> None:
    """Print the measurements, then one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="two workers and a short audit")
    parser.add_argument("--workers", type=int, default=8)
    parser.add_argument("--killed", type=int, default=3)
    arguments = parser.parse_args()
    count, killed = (2, 1) if arguments.quick else (arguments.workers, arguments.killed)
    size = (_QUICK_IMAGES, _QUICK_RESTARTS) if arguments.quick else (_IMAGES, _RESTARTS)
    with postgres_server() as postgres, redis_server() as broker, TemporaryDirectory() as name, ExitStack() as stack:
        database = postgres.url(postgres.new_database())
        site = Site(Path(name), database_url=database, broker_url=broker, networks=NETWORKS, processes=1)
        stack.callback(site.close)
        workers = [site.worker()]
        one = run_audit(site, *size, lambda _: None)
        print(f"1 worker: {one.seconds:.1f} s, second half {one.second_half:.1f} s")
        workers += [site.worker() for _ in range(count - 1)]
        wait_until_ready(workers)
        all_workers = run_audit(site, *size, lambda _: None)
        print(f"{count} workers: {all_workers.seconds:.1f} s, second half {all_workers.second_half:.1f} s")

        def kill(job_id: str) -> None:
            leader = (site.job(job_id).lease_owner or "").rsplit(":", 1)[1]
            for worker in [worker for worker in workers if str(worker.pid) != leader][:killed]:
                worker.kill()

        some_killed = run_audit(site, *size, kill)
        print(f"{count} workers, {killed} killed at half: {some_killed.seconds:.1f} s, {some_killed.second_half:.1f} s")
    figures = {
        "workers": count,
        "killed": killed,
        "helpers": all_workers.helpers,
        "seconds_one": one.seconds,
        "seconds_all": all_workers.seconds,
        "seconds_killed": some_killed.seconds,
        "speedup": one.seconds / all_workers.seconds,
        "speedup_second_half": one.second_half / all_workers.second_half,
        "speedup_second_half_killed": one.second_half / some_killed.second_half,
        "equal_reports": one.report == all_workers.report == some_killed.report,
    }
    versions = {"python": platform.python_version(), "cores": os.cpu_count()}
    print(json.dumps({"benchmark": "helping_workers", **versions, **figures}))


def wait_until_ready(workers: list[SiteProcess]) -> None:
    """Wait until every worker takes messages."""
    while not all("ready" in worker.log.read_text() for worker in workers):
        time.sleep(_LOOK_SECONDS)


if __name__ == "__main__":
    main()
