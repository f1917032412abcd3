"""Add the figures by which lists of jobs are sorted, from the specs and reports of jobs, and indexes of these lists.

Revision: 0019
Revises: 0018
"""

import json
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None

_FIGURES = {"epsilon": sa.Double, "robust_mean": sa.Double, "robust_worst": sa.Double, "worst_class": sa.String}
_INDEXED = ("kind", "state", "epsilon", "robust_mean", "robust_worst")

_jobs = sa.table("jobs", sa.column("id"), sa.column("spec", sa.JSON), *(sa.column(name) for name in _FIGURES))
_reports = sa.table("reports", sa.column("job_id"), sa.column("document"))


def upgrade() -> None:
    for name, kind in _FIGURES.items():
        op.add_column("jobs", sa.Column(name, kind(), nullable=True))
    _fill()
    for name in _INDEXED:
        op.create_index(f"ix_jobs_owner_{name}_id", "jobs", ["owner", name, "id"])


def downgrade() -> None:
    for name in _INDEXED:
        op.drop_index(f"ix_jobs_owner_{name}_id", "jobs")
    for name in _FIGURES:
        op.drop_column("jobs", name)


def _fill() -> None:
    """Set the figures, row by row: a spec or a report can have megabytes."""
    connection = op.get_bind()
    for job_id in connection.execute(sa.select(_jobs.c.id)).scalars().all():
        spec = connection.execute(sa.select(_jobs.c.spec).where(_jobs.c.id == job_id)).scalar_one()
        figures: dict[str, Any] = {"epsilon": (spec or {}).get("threat", {}).get("epsilon")}
        document = connection.execute(sa.select(_reports.c.document).where(_reports.c.job_id == job_id)).scalar()
        if document is not None:
            report = json.loads(document)
            robust = report.get("after", report).get("robust")
            if report.get("kind") in ("audit", "finetune") and robust is not None:
                figures |= {"robust_mean": robust["mean"]["rate"], "robust_worst": robust["worst"]["value"]}
                figures["worst_class"] = robust["worst_class"]
        connection.execute(sa.update(_jobs).where(_jobs.c.id == job_id).values(figures))
