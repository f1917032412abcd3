"""The tables of studies, which fine-tune one model by several methods with several seeds, and of their jobs."""

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, ForeignKey, Index, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from jobs.clock import UtcDateTime, now
from jobs.tables import Table, new_id


class Study(Table):
    """Fine-tunings of one model on one data set by several methods with several seeds, that are judged alike."""

    __tablename__ = "studies"
    __table_args__ = (UniqueConstraint("owner", "idempotency_key"), Index(None, "owner", "id"))

    id: Mapped[str] = mapped_column(primary_key=True, default=lambda: new_id("study"))
    owner: Mapped[str]
    name: Mapped[str]
    model_id: Mapped[str] = mapped_column(ForeignKey("models.id"))
    dataset: Mapped[str]  # a catalog name or a data set's id
    methods: Mapped[list[dict[str, Any]]] = mapped_column(JSON)  # method specs
    seeds: Mapped[list[int]] = mapped_column(JSON)
    idempotency_key: Mapped[str | None]
    payload_sha256: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, default=now())


class StudyRun(Table):
    """One method with one seed of a study, and the job that fine-tunes. Rows stay when their jobs are deleted."""

    __tablename__ = "study_runs"

    study_id: Mapped[str] = mapped_column(ForeignKey("studies.id"), primary_key=True)
    method: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)  # its place in the study's methods
    seed: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    owner: Mapped[str]
    job_id: Mapped[str] = mapped_column(unique=True)  # no foreign key: the row outlasts its job
