"""Test that a job stays within the table of moves, for any order of actions by clients, workers and sweeps."""

from collections.abc import Callable
from typing import get_args

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from sqlalchemy.orm import Session

from jobs import control, lifecycle, queries
from jobs.database import Sessions
from jobs.errors import JobStateConflict, LeaseLost
from jobs.states import FINAL, MOVES, JobState, ReleaseReason
from jobs.tables import Job
from tests.job_steps import add_ready_model, queue_audit

MAX_ATTEMPTS = 3
ALLOWED = {(source, move.target) for move in MOVES.values() for source in move.sources}


class OneJob(RuleBasedStateMachine):
    """Random verbs on one job, by workers of any past attempt, by clients and by sweeps."""

    sessions: Sessions
    model_id: str

    @initialize()
    def submit(self) -> None:
        """Queue a job."""
        self.job_id = queue_audit(self.sessions, self.model_id)
        self.last_job, self.claims = self.job(), []

    def job(self) -> Job:
        """Return the job as it is in the table."""
        with self.sessions() as session:
            return queries.find_job(session, self.job_id)

    @rule(lease_seconds=st.sampled_from([-1, 60]))
    def claim(self, lease_seconds: int) -> None:
        """Claim the job as a worker: this succeeds exactly when it is queued, under the next attempt."""
        with self.sessions.begin() as session:
            job = lifecycle.claim(session, self.job_id, worker="w", lease_seconds=lease_seconds)
        assert (job is not None) == (self.last_job.state is JobState.QUEUED)
        if job is not None:
            self.claims.append(job.attempt)

    @rule(
        verb=st.sampled_from(["record", "succeed", "fail", "cancel", *get_args(ReleaseReason)]),
        age=st.integers(0, 3),
    )
    def write(self, verb: str, age: int) -> None:
        """Write as a worker of the latest attempt or of one before: this succeeds exactly when it holds the job."""
        attempt = max(self.last_job.attempt - age, 0)
        holds = self.last_job.state is JobState.RUNNING and attempt == self.last_job.attempt
        job_id = self.job_id
        try:
            with self.sessions.begin() as session:
                if verb == "record":
                    lifecycle.record_progress(session, job_id, attempt, stage="audit", event=("attack", {}))
                elif verb == "succeed":
                    lifecycle.succeed(session, job_id, attempt, report="{}")
                elif verb == "fail":
                    lifecycle.fail(session, job_id, attempt, code="internal-error", message="m")
                elif verb == "cancel":
                    lifecycle.cancel_running(session, job_id, attempt)
                else:
                    lifecycle.release(session, job_id, attempt, reason=verb, max_attempts=MAX_ATTEMPTS)
        except LeaseLost:
            assert not holds
            assert self.job().version == self.last_job.version
        else:
            assert holds

    @rule(age=st.integers(0, 2))
    def renew(self, age: int) -> None:
        """Renew the lease: this succeeds exactly for the attempt that holds the job."""
        attempt = max(self.last_job.attempt - age, 0)
        with self.sessions.begin() as session:
            is_renewed = lifecycle.renew(session, self.job_id, attempt, lease_seconds=60)
        assert is_renewed == (self.last_job.state is JobState.RUNNING and attempt == self.last_job.attempt)

    @rule()
    def request_cancel(self) -> None:
        """Cancel the job as a client: this is refused exactly when the job succeeded or failed."""
        try:
            with self.sessions.begin() as session:
                control.cancel(session, self.job_id)
        except JobStateConflict:
            assert self.last_job.state in {JobState.SUCCEEDED, JobState.FAILED}
        else:
            assert self.last_job.state not in {JobState.SUCCEEDED, JobState.FAILED}

    @rule(order=st.sampled_from([control.pause, control.resume]))
    def pause_or_resume(self, order: Callable[[Session, str], Job]) -> None:
        """Pause or resume the job as a client: this is refused exactly when it has ended or is being cancelled."""
        is_refused = self.last_job.state in FINAL or self.last_job.cancel_requested
        try:
            with self.sessions.begin() as session:
                order(session, self.job_id)
        except JobStateConflict:
            assert is_refused
            return
        assert not is_refused
        now = self.job()
        stands = now.state is JobState.PAUSED or now.pause_requested
        assert stands == (order is control.pause)

    @rule()
    def run_sweep(self) -> None:
        """Run a sweep as another worker: it takes back only a job whose lease ran out."""
        before = self.job()
        with self.sessions.begin() as session:
            job_ids = lifecycle.take_back(session, max_attempts=MAX_ATTEMPTS)
            lifecycle.fail_overdue(session)
        assert self.job_id not in job_ids or before.state is JobState.RUNNING

    @invariant()
    def moves_are_in_the_table(self) -> None:
        """Check that each step is a move of the table, that version and attempt never fall, and that crashes are limited."""
        if not hasattr(self, "last_job"):
            return
        before, now = self.last_job, self.job()
        self.last_job = now
        assert now.state is before.state or (before.state, now.state) in ALLOWED
        assert now.state is JobState.RUNNING or not now.pause_requested
        assert now.version >= before.version
        assert now.attempt >= before.attempt
        assert now.crashes <= MAX_ATTEMPTS
        assert (now.lease_owner is not None) == (now.state is JobState.RUNNING)
        assert (now.finished_at is not None) == (now.state in FINAL)
        assert (now.error is not None) == (now.state is JobState.FAILED)

    @invariant()
    def one_owner_an_attempt(self) -> None:
        """Check that every attempt was claimed once, in order, and that no attempt was made up."""
        if hasattr(self, "claims"):
            assert self.claims == list(range(1, self.last_job.attempt + 1))

    @invariant()
    def one_end(self) -> None:
        """Check that a final event is the last one, and that the job's state is that of its last state event."""
        if not hasattr(self, "last_job"):
            return
        with self.sessions() as session:
            events = queries.list_events(session, self.job_id, limit=10_000)
        kinds = [event.kind for event in events]
        assert [kind for kind in kinds[:-1] if kind in FINAL] == []
        assert [kind for kind in kinds if kind in set(JobState)][-1] == self.last_job.state
        assert [event.seq for event in events] == sorted({event.seq for event in events})
        assert events[-1].seq <= self.last_job.version


def test_random_verbs(sessions):
    """Random verbs on both databases stay within the moves, with one owner an attempt and one end a job."""
    machine = type("OneJobHere", (OneJob,), {"sessions": sessions, "model_id": add_ready_model(sessions)})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=30, stateful_step_count=20, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )
