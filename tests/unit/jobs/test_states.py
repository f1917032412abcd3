"""The table of moves."""

from jobs.states import FINAL, MOVES, JobState


def test_final_states():
    """A job that succeeded, failed or was cancelled moves no more; every other state has a way out."""
    assert {JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED} == FINAL


def test_every_state_is_reached():
    """Each state but the first is the target of a move from a state that is itself reached."""
    reached = {JobState.QUEUED}
    for _ in JobState:
        reached |= {move.target for move in MOVES.values() if move.sources & reached}
    assert reached == set(JobState)


def test_only_a_claim_makes_a_job_running():
    """No job runs without a lease: the one move into `running` is the claim."""
    assert [verb for verb, move in MOVES.items() if move.target is JobState.RUNNING] == ["claim"]
