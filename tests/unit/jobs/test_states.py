"""The table of transitions."""

from jobs.states import FINAL, MOVES, JobState


def test_final_states():
    """A job that succeeded, failed or was cancelled does not change its state; every other state can be left."""
    assert {JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED} == FINAL
    assert frozenset(JobState) - frozenset().union(*(move.sources for move in MOVES.values())) == FINAL


def test_every_state_is_reached():
    """Each state but the first is the target of a transition from a reachable state."""
    reachable = {JobState.QUEUED}
    for _ in JobState:
        reachable |= {move.target for move in MOVES.values() if move.sources & reachable}
    assert reachable == set(JobState)


def test_only_a_claim_makes_a_job_running():
    """Only a claim, which gives a lease, changes the state to `running`."""
    assert [verb for verb, move in MOVES.items() if move.target is JobState.RUNNING] == ["claim"]
