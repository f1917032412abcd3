"""Idle workers help with the audit of another worker's job, and the report is that of one worker."""

from jobs.states import JobState
from tests.service.processes import is_gone, servers_first, wait_until
from tests.service.sleeping_jobs import NETWORKS, submit_sleeping_audit
from tests.service.small_jobs import timeless

LONG = {"images": 96, "microseconds": 5000, "steps": 10, "restarts": 40}  # three minutes, unless the network is awake


@servers_first
def test_an_idle_worker_helps(site, tmp_path):
    """A second worker computes batches of a long audit. Killed in the middle, it changes nothing of the report."""
    site.settings = site.settings.model_copy(update={"networks": NETWORKS})
    awake = tmp_path / "awake"
    workers = [site.worker(AWAKE=str(awake)) for _ in range(2)]
    helped = submit_sleeping_audit(site, **LONG)
    site.queue.ring(helped)
    wait_until(lambda: site.job(helped).helpers == 1, within_seconds=120, tell=site.tell)
    (helper,) = (worker for worker in workers if not site.job(helped).lease_owner.endswith(f":{worker.pid}"))
    computing = helper.helpers
    assert computing
    helper.kill()
    awake.touch()
    wait_until(lambda: all(map(is_gone, computing)), within_seconds=5)
    assert site.wait_until_ended(helped).state is JobState.SUCCEEDED, site.tell()
    assert site.events(helped, "helpers")[0].body == {"helpers": 1}
    alone = submit_sleeping_audit(site, **LONG)
    site.queue.ring(alone)
    assert site.wait_until_ended(alone).state is JobState.SUCCEEDED, site.tell()
    assert timeless(site.report(helped)) == timeless(site.report(alone))


def test_a_waiting_job_goes_before_helping(served_site):
    """A worker that helps runs a job that is submitted meanwhile at once, and helps again afterwards."""
    site = served_site
    site.settings = site.settings.model_copy(update={"networks": NETWORKS})
    for _ in range(2):
        site.worker()
    helped = submit_sleeping_audit(site, **LONG)
    site.queue.ring(helped)
    wait_until(lambda: site.job(helped).helpers == 1, within_seconds=120, tell=site.tell)
    short = submit_sleeping_audit(site, images=96, microseconds=0, steps=1, restarts=1)
    assert site.wait_until_ended(short).state is JobState.SUCCEEDED, site.tell()
    assert site.job(helped).state is JobState.RUNNING
