"""The steps by which several workers compute the batches of one audit, in the caller's transaction.

The process that runs a job, its leader, opens an audit, offers batches and takes their results. Idle workers, its helpers, claim
open batches. A claim raises the batch's `attempt`, and a result is stored only under the attempt that claimed it: a helper
that lost its lease changes nothing. These functions never change the state of the job; its lease belongs to its worker.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, delete, exists, func, or_, select, update
from sqlalchemy.orm import Session, aliased

from faal_core.results.schedule import Batch
from jobs import lifecycle, moves
from jobs.clock import now
from jobs.sharing_tables import SharedAudit, SharedBatch, delete_batches, lock_batches
from jobs.states import JobState
from jobs.tables import Job
from jobs.turns import in_pool

_LEASED = (
    SharedBatch.result.is_(None) & SharedBatch.lease_expires_at.is_not(None) & (SharedBatch.lease_expires_at > now())
)
_OPEN = SharedBatch.result.is_(None) & or_(
    SharedBatch.lease_expires_at.is_(None), SharedBatch.lease_expires_at <= now()
)


class AuditKey(NamedTuple):
    """Names a shared audit: its job, and the digest of all that determines its results."""

    job_id: str
    identity: str


class OpenAudit(NamedTuple):
    """Describes a shared audit with open batches.

    Args:
        environment: versions and device of the job's process.
        pool: of the workers that run the job; None: any worker.
    """

    key: AuditKey
    environment: str
    pool: str | None


def open_audit(
    session: Session, key: AuditKey, attempt: int, *, environment: str, body: Mapping[str, Any]
) -> Sequence[SharedBatch]:
    """Open the audit for helpers, and return the batches that helpers of an earlier attempt computed, or are computing.

    All other shared audits of the job are closed. Raises: LeaseLost.

    Args:
        environment: versions and device of the job's process.
        body: how a helper computes a batch.
    """
    lifecycle.lock_leased_job(session, key.job_id, attempt)
    _delete(session, key.job_id, SharedAudit.identity != key.identity, SharedBatch.identity != key.identity)
    delete_batches(session, *_batches_of(key), _OPEN)
    session.merge(SharedAudit(**key._asdict(), attempt=attempt, environment=environment, body=dict(body)))
    return session.scalars(select(SharedBatch).where(*_batches_of(key)).order_by(SharedBatch.number)).all()


def is_shared(session: Session, key: AuditKey) -> bool:
    """Return whether an attempt of the job has shared the audit."""
    return session.get(SharedAudit, key) is not None


def close_audit(session: Session, key: AuditKey, attempt: int) -> None:
    """Delete the audit with its batches, unless another attempt of the job shares it now."""
    moves.lock_job(session, key.job_id)  # which the job's end holds, too, while it deletes the same rows
    audit = session.get(SharedAudit, key)
    if audit is not None and audit.attempt == attempt:
        _delete(session, key.job_id, SharedAudit.identity == key.identity, SharedBatch.identity == key.identity)


def offer(session: Session, key: AuditKey, attempt: int, batches: Iterable[tuple[int, Batch]]) -> None:
    """Insert open batches, each under a number that was not used before. Raises: LeaseLost."""
    lifecycle.lock_leased_job(session, key.job_id, attempt)
    for number, batch in batches:  # which are there already if the answer to an earlier call was lost
        row = SharedBatch(**key._asdict(), number=number, attack=batch.attack, run=batch.run, rows=list(batch.rows))
        session.merge(row)


def list_leased(session: Session, key: AuditKey) -> Mapping[int, str]:
    """Return the workers that compute batches of the audit now, by the number of the batch."""
    leased = select(SharedBatch.number, SharedBatch.worker).where(*_batches_of(key), _LEASED)
    return {number: worker for number, worker in session.execute(leased) if worker is not None}


def find_results(session: Session, key: AuditKey) -> Sequence[SharedBatch]:
    """Return the batches that have results."""
    return session.scalars(select(SharedBatch).where(*_batches_of(key), SharedBatch.result.is_not(None))).all()


def discard(session: Session, key: AuditKey, attempt: int, numbers: Collection[int]) -> None:
    """Delete batches: no helper can claim them or store their results any more. Raises: LeaseLost."""
    lifecycle.lock_leased_job(session, key.job_id, attempt)
    delete_batches(session, *_batches_of(key), SharedBatch.number.in_(numbers))


def record_helpers(session: Session, job_id: str, attempt: int, helpers: int, *, joined: bool) -> None:
    """Store the number of workers that help with the job, with an event if one joined. Raises: LeaseLost."""
    guards = moves.lease_guards(attempt)
    job = moves.require_lease(moves.update_job(session, job_id, *guards, helpers=helpers), job_id, attempt)
    if joined:
        moves.add_event(session, job, "helpers", {"helpers": helpers})


def find_audit_to_help(
    session: Session,
    *,
    pool: str | None,
    refused_environments: Collection[str] = (),
    refused_audits: Collection[str] = (),
    excluded_worker: str | None = None,
) -> OpenAudit | None:
    """Return the shared audit that an idle worker helps next; None where no batch is open.

    Jobs of higher priority come first, then those of the owner with the fewest helpers, then the oldest audit.

    Args:
        pool: the worker's pool, as for `lifecycle.claim_next`.
        refused_environments, refused_audits: environments and identities of audits that the worker cannot help with.
        excluded_worker: a worker whose own leases do not count.
    """
    helped = aliased(SharedBatch)
    is_leased = (
        helped.result.is_(None) & (helped.lease_expires_at > now()) & helped.worker.is_distinct_from(excluded_worker)
    )
    helping = aliased(Job)
    counts = (
        select(helping.owner, func.count(helped.worker.distinct()).label("helpers"))
        .join(helped, helped.job_id == helping.id)
        .where(is_leased)
        .group_by(helping.owner)
        .subquery()
    )
    has_open = exists().where(
        SharedBatch.job_id == SharedAudit.job_id, SharedBatch.identity == SharedAudit.identity, _OPEN
    )
    query = (
        select(SharedAudit.job_id, SharedAudit.identity, SharedAudit.environment, Job.pool)
        .join(Job, Job.id == SharedAudit.job_id)
        .outerjoin(counts, counts.c.owner == Job.owner)
        .where(*_is_computed(), in_pool(pool), has_open)
        .where(SharedAudit.environment.not_in(refused_environments), SharedAudit.identity.not_in(refused_audits))
        .order_by(Job.priority.desc(), func.coalesce(counts.c.helpers, 0), SharedAudit.opened_at)
    )
    row = session.execute(query.limit(1)).one_or_none()
    return None if row is None else OpenAudit(AuditKey(row.job_id, row.identity), row.environment, row.pool)


def is_wanted(session: Session, key: AuditKey) -> bool:
    """Return whether helpers may continue with the audit: its job runs, is not to stop, and still shares the audit."""
    query = select(SharedAudit.job_id).join(Job, Job.id == SharedAudit.job_id).where(*_audit_of(key), *_is_computed())
    return session.scalars(query).one_or_none() is not None


def claim_batches(
    session: Session, key: AuditKey, *, worker: str, lease_seconds: float, most: Callable[[int], int]
) -> Sequence[SharedBatch]:
    """Claim open batches of one attack for the worker, at most half of them, and return them.

    None are returned where helpers are to stop.

    Args:
        most: returns the largest number of batches for the number of an attack, whose batches take similar times.
    """
    if not is_wanted(session, key):
        return []
    is_open = (*_batches_of(key), _OPEN)
    attack = session.scalars(select(SharedBatch.attack).where(*is_open).order_by(SharedBatch.number).limit(1)).first()
    if attack is None:
        return []
    of_attack = select(SharedBatch.number).where(*is_open, SharedBatch.attack == attack).order_by(SharedBatch.number)
    first = session.scalars(of_attack.limit(2 * most(attack)).with_for_update(skip_locked=True)).all()
    claimed = (
        update(SharedBatch)
        .where(*_batches_of(key), SharedBatch.number.in_(first[: (len(first) + 1) // 2]), _OPEN)
        .values(attempt=SharedBatch.attempt + 1, worker=worker, lease_expires_at=now(lease_seconds))
        .returning(SharedBatch)
        .execution_options(synchronize_session=False, populate_existing=True)
    )
    return sorted(session.scalars(claimed).all(), key=lambda batch: batch.number)


def store_result(session: Session, batch: SharedBatch, result: str) -> bool:
    """Store the result of a claimed batch; return False, and store nothing, where another worker or the leader has the batch."""
    guards = (SharedBatch.number == batch.number, SharedBatch.attempt == batch.attempt, SharedBatch.result.is_(None))
    stored = (
        update(SharedBatch)
        .where(*_batches_of(AuditKey(batch.job_id, batch.identity)), *guards)
        .values(result=result)
        .returning(SharedBatch.number)
        .execution_options(synchronize_session=False)
    )
    return session.scalars(stored).one_or_none() is not None


def list_claimed(session: Session, key: AuditKey, worker: str) -> Mapping[int, int]:
    """Return the attempts of the batches that the worker has claimed and not computed, by number."""
    claimed = (*_batches_of(key), SharedBatch.worker == worker, SharedBatch.result.is_(None))
    rows = session.execute(select(SharedBatch.number, SharedBatch.attempt).where(*claimed))
    return {row.number: row.attempt for row in rows}


def renew_batches(session: Session, worker: str, *, lease_seconds: float) -> None:
    """Let the leases of the worker's batches end `lease_seconds` from now."""
    _set_leases(session, worker, lease_expires_at=now(lease_seconds))


def release_batches(session: Session, worker: str) -> None:
    """Open the batches that the worker claimed and has not computed."""
    _set_leases(session, worker, lease_expires_at=None)


def _set_leases(session: Session, worker: str, **values: object) -> None:
    claimed = (SharedBatch.worker == worker, SharedBatch.result.is_(None))
    lock_batches(session, *claimed)
    session.execute(update(SharedBatch).where(*claimed).values(**values).execution_options(synchronize_session=False))


def _is_computed() -> tuple[ColumnElement[bool], ...]:
    """Return the conditions under which an audit's job runs, is not to stop, and shares the audit in its present attempt."""
    stops = or_(Job.cancel_requested, Job.pause_requested)
    return Job.state == JobState.RUNNING, Job.attempt == SharedAudit.attempt, ~stops


def _audit_of(key: AuditKey) -> tuple[ColumnElement[bool], ...]:
    return SharedAudit.job_id == key.job_id, SharedAudit.identity == key.identity


def _batches_of(key: AuditKey) -> tuple[ColumnElement[bool], ...]:
    return SharedBatch.job_id == key.job_id, SharedBatch.identity == key.identity


def _delete(session: Session, job_id: str, audits: ColumnElement[bool], batches: ColumnElement[bool]) -> None:
    delete_batches(session, SharedBatch.job_id == job_id, batches)
    session.execute(delete(SharedAudit).where(SharedAudit.job_id == job_id, audits))
