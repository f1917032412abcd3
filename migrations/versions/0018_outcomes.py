"""Add the outcomes of images that are stored with reports.

Revision: 0018
Revises: 0017
"""

import sqlalchemy as sa
from alembic import op

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None


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
