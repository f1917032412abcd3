"""Add the outcomes of images that are stored with reports.

Revision: 0018
Revises: 0017
"""

import json
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None

_reports = sa.table("reports", sa.column("job_id"), sa.column("document"))


def upgrade() -> None:
    op.create_table(
        "report_outcomes",
        sa.Column("job_id", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("owner", sa.String(), nullable=False),
        sa.Column("sha256", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name="fk_report_outcomes_job_id"),
        sa.ForeignKeyConstraint(["sha256"], ["artifacts.sha256"], name="fk_report_outcomes_sha256"),
        sa.PrimaryKeyConstraint("job_id", "name", name="pk_report_outcomes"),
    )
    op.create_index("ix_report_outcomes_sha256", "report_outcomes", ["sha256"])


def downgrade() -> None:
    op.drop_index("ix_report_outcomes_sha256", "report_outcomes")
    op.drop_table("report_outcomes")
    op.execute("DELETE FROM job_events WHERE job_id IN (SELECT id FROM jobs WHERE kind = 'compare')")
    op.execute("DELETE FROM reports WHERE job_id IN (SELECT id FROM jobs WHERE kind = 'compare')")
    op.execute("DELETE FROM jobs WHERE kind = 'compare'")
    _remove_digests()


def _remove_digests() -> None:
    """Remove `outcomes_sha256`, which revision 0017 forbids, from reports, row by row: a report can have megabytes."""
    connection = op.get_bind()
    for job_id in connection.scalars(sa.select(_reports.c.job_id)).all():
        this = _reports.c.job_id == job_id
        report: dict[str, Any] = json.loads(connection.execute(sa.select(_reports.c.document).where(this)).scalar_one())
        audits = [audit for audit in (report, report.get("before"), report.get("after")) if audit]
        if any("outcomes_sha256" in audit for audit in audits):
            for audit in audits:
                audit.pop("outcomes_sha256", None)
            document = json.dumps(report, separators=(",", ":"), ensure_ascii=False)
            connection.execute(sa.update(_reports).where(this).values(document=document))
