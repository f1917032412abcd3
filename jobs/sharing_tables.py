"""The tables of audits whose batches several workers compute."""

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, ColumnElement, ForeignKey, ForeignKeyConstraint, Index, delete, select
from sqlalchemy.orm import Mapped, Session, mapped_column

from jobs.clock import UtcDateTime, now
from jobs.tables import Table


class SharedAudit(Table):
    """An audit of a running job whose batches idle workers may compute. The row is deleted when the audit or the job ends."""

    __tablename__ = "shared_audits"

    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id"), primary_key=True)
    identity: Mapped[str] = mapped_column(primary_key=True)  # digest of all that determines the results
    attempt: Mapped[int]  # of the job, which shares the audit now; a later attempt takes it over
    environment: Mapped[str]  # versions and device of the job's process; helpers must have the same
    body: Mapped[dict[str, Any]] = mapped_column(JSON)  # how a helper computes a batch, as `worker` writes and reads it
    opened_at: Mapped[datetime] = mapped_column(UtcDateTime, default=now())


class SharedBatch(Table):
    """A batch of a shared audit: open, leased to a helper, or with its result."""

    __tablename__ = "shared_batches"
    __table_args__ = (
        ForeignKeyConstraint(
            ["job_id", "identity"],
            ["shared_audits.job_id", "shared_audits.identity"],
            name="fk_shared_batches_job_id_identity",
        ),
        Index(None, "worker"),
    )

    job_id: Mapped[str] = mapped_column(primary_key=True)
    identity: Mapped[str] = mapped_column(primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)  # in the order in which it was offered
    attack: Mapped[int]  # attack, run and rows as in the ledger of the audit
    run: Mapped[int]
    rows: Mapped[list[int]] = mapped_column(JSON)
    attempt: Mapped[int] = mapped_column(default=0)  # the fencing token: grows with every claim
    worker: Mapped[str | None]  # the last that claimed it
    lease_expires_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    result: Mapped[str | None]  # as a line of the ledger, until the leader has taken it


def lock_batches(session: Session, *conditions: ColumnElement[bool]) -> None:
    """Lock those batches, in one order: otherwise two transactions could each wait for the other."""
    ordered = select(SharedBatch.number).where(*conditions)
    order = (SharedBatch.job_id, SharedBatch.identity, SharedBatch.number)
    session.execute(ordered.order_by(*order).with_for_update())


def delete_batches(session: Session, *conditions: ColumnElement[bool]) -> None:
    """Delete those batches."""
    lock_batches(session, *conditions)
    session.execute(delete(SharedBatch).where(*conditions).execution_options(synchronize_session=False))
