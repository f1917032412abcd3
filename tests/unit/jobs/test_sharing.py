"""Workers share the batches of an audit: each is leased to one, and its result is stored once."""

import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from faal_core.results.schedule import Batch
from jobs import control, lifecycle, sharing
from jobs.errors import LeaseLost
from jobs.sharing import AuditKey
from jobs.sharing_tables import SharedAudit, SharedBatch
from tests.job_steps import BATCHES, claim_job, load_events, load_job, share_audit

_WAITS_SECONDS = 0.2  # by then another thread waits for a lock


def claim(sessions, key, worker="w", lease_seconds=60.0, most=8) -> list[SharedBatch]:
    """Claim batches as that worker."""
    with sessions.begin() as session:
        return list(
            sharing.claim_batches(session, key, worker=worker, lease_seconds=lease_seconds, most=lambda _: most)
        )


def numbers(batches) -> list[int]:
    """Return the numbers of the batches."""
    return [batch.number for batch in batches]


def test_a_claim_takes_at_most_half_of_the_open_batches(sessions):
    """Helpers claim the earliest open batches, at most as many as they ask for and half of those that are open."""
    key = share_audit(sessions)
    assert [numbers(claim(sessions, key, worker, most=3)) for worker in "abcd"] == [[0, 1, 2], [3, 4, 5], [6], [7]]
    assert claim(sessions, key, "e") == []


def test_workers_at_the_same_time_claim_different_batches(sessions):
    """Of workers that claim at the same time, no two get the same batch, and all batches are claimed."""
    key = share_audit(sessions, batches=[Batch(0, run, (0,)) for run in range(40)])

    def claim_all(worker: str) -> list[int]:
        claimed: list[int] = []
        while one := claim(sessions, key, worker, most=2):
            claimed += numbers(one)
        return claimed

    with ThreadPoolExecutor(4) as pool:
        claimed = [number for one in pool.map(claim_all, "abcd") for number in one]
    assert len(claimed) == len(set(claimed))
    assert set(claimed) | set(claim_all("e")) == set(range(40))


def test_a_lost_lease_stores_nothing(sessions):
    """After the lease of a batch has run out another worker claims it, and only the result of that claim is stored, once."""
    key = share_audit(sessions, batches=BATCHES[:1])
    (silent,) = claim(sessions, key, "silent", lease_seconds=-1)
    (living,) = claim(sessions, key, "living")
    with sessions.begin() as session:
        stored = [
            sharing.store_result(session, batch, text) for batch, text in [(silent, "s"), (living, "l"), (living, "m")]
        ]
        assert stored == [False, True, False]
        assert [batch.result for batch in sharing.find_results(session, key)] == ["l"]
        assert sharing.list_leased(session, key) == {}


def test_released_batches_are_open_again(sessions):
    """A worker that stops opens what it has not computed; a renewed lease holds."""
    key = share_audit(sessions, batches=BATCHES[:2])
    claim(sessions, key, "a", lease_seconds=-1)
    with sessions.begin() as session:
        sharing.renew_batches(session, "a", lease_seconds=60)
        assert sharing.list_leased(session, key) == {0: "a"}
        sharing.release_batches(session, "a")
        assert sharing.list_leased(session, key) == {}
    assert numbers(claim(sessions, key, "b")) == [0]


@pytest.mark.parametrize("end", [control.cancel, control.pause])
def test_helpers_stop_with_the_job(sessions, end):
    """No batch is claimed of a job that is asked to stop, that has another attempt, or that has ended."""
    key = share_audit(sessions)
    with sessions.begin() as session:
        end(session, key.job_id)
        assert not sharing.is_wanted(session, key)
        assert sharing.find_audit_to_help(session, pool=None) is None
    assert claim(sessions, key) == []


def test_a_later_attempt_finds_what_helpers_computed(sessions):
    """The next attempt gets the batches with results and those being computed; an earlier attempt offers nothing any more."""
    key = share_audit(sessions)
    done, running = claim(sessions, key, "a", most=2)
    with sessions.begin() as session:
        sharing.store_result(session, done, "r")
        lifecycle.release(session, key.job_id, 1, reason="worker-stopped")
        assert not sharing.is_wanted(session, key)
    claim_job(sessions, key.job_id)
    with sessions.begin() as session:
        kept = sharing.open_audit(session, key, 2, environment="e", body={})
        assert [(batch.number, batch.result) for batch in kept] == [(done.number, "r"), (running.number, None)]
    with sessions.begin() as session, pytest.raises(LeaseLost):
        sharing.offer(session, key, 1, [(9, BATCHES[0])])


def test_an_ended_job_leaves_no_batches(sessions):
    """With the end of the job its shared audits go, and no worker helps it any more."""
    key = share_audit(sessions)
    claim(sessions, key)
    with sessions.begin() as session:
        sharing.record_helpers(session, key.job_id, 1, 1, joined=True)
    assert load_job(sessions, key.job_id).helpers == 1
    assert load_events(sessions, key.job_id)[-1].body == {"helpers": 1}
    with sessions.begin() as session:
        lifecycle.succeed(session, key.job_id, 1, report="{}")
        assert (session.query(SharedAudit).count(), session.query(SharedBatch).count()) == (0, 0)
    assert load_job(sessions, key.job_id).helpers == 0


def test_owners_share_the_helpers(sessions):
    """An idle worker helps the owner with the fewest helpers, then the oldest audit; never another pool, nor what it refused."""
    first, second = share_audit(sessions), share_audit(sessions, owner="bob", environment="f")
    in_pool = share_audit(sessions, owner="cid", pool="h100")

    def choose(**options) -> AuditKey | None:
        with sessions() as session:
            found = sharing.find_audit_to_help(session, **{"pool": None} | options)
        return None if found is None else found.key

    assert choose() == first
    claim(sessions, first, "w", most=1)
    assert choose() == second
    assert choose(excluded_worker="w") == first
    assert choose(refused_environments={"f"}) == first
    assert choose(refused_environments={"e", "f"}) is None
    assert choose(pool="h100", refused_environments={"f"}) == in_pool


def test_results_are_stored_while_leases_are_renewed(sessions):
    """A helper stores results while its worker renews the leases of these batches: one waits for the other, and neither fails."""
    key, claimed = share_audit(sessions, batches=[]), {}
    for number in (1, 0):  # the database finds the later one last, though its number is lower
        with sessions.begin() as session:
            sharing.offer(session, key, 1, [(number, BATCHES[number])])
        (claimed[number],) = claim(sessions, key)

    def renew() -> None:
        with sessions.begin() as session:
            sharing.renew_batches(session, "w", lease_seconds=60)

    with ThreadPoolExecutor(1) as pool:
        with sessions.begin() as session:
            assert sharing.store_result(session, claimed[0], "r")
            renewed = pool.submit(renew)
            time.sleep(_WAITS_SECONDS)
            assert sharing.store_result(session, claimed[1], "s")
        renewed.result()
    with sessions() as session:
        assert [batch.result for batch in sharing.find_results(session, key)] in (["r", "s"], ["s", "r"])
