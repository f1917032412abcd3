"""Add audits whose batches several workers compute, and the number of workers that help with a job.

Revision: 0024
Revises: 0023
"""

import sqlalchemy as sa
from alembic import op

revision = "0024"
down_revision = "0023"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("jobs", sa.Column("helpers", sa.Integer(), server_default="0", nullable=False))
    op.create_table(
        "shared_audits",
        sa.Column("job_id", sa.String(), nullable=False),
        sa.Column("identity", sa.String(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("environment", sa.String(), nullable=False),
        sa.Column("body", sa.JSON(), nullable=False),
        sa.Column("opened_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name="fk_shared_audits_job_id"),
        sa.PrimaryKeyConstraint("job_id", "identity", name="pk_shared_audits"),
    )
    op.create_table(
        "shared_batches",
        sa.Column("job_id", sa.String(), nullable=False),
        sa.Column("identity", sa.String(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("attack", sa.Integer(), nullable=False),
        sa.Column("run", sa.Integer(), nullable=False),
        sa.Column("rows", sa.JSON(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("worker", sa.String(), nullable=True),
        sa.Column("lease_expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("result", sa.String(), nullable=True),
        sa.ForeignKeyConstraint(
            ["job_id", "identity"],
            ["shared_audits.job_id", "shared_audits.identity"],
            name="fk_shared_batches_job_id_identity",
        ),
        sa.PrimaryKeyConstraint("job_id", "identity", "number", name="pk_shared_batches"),
    )
    op.create_index("ix_shared_batches_worker", "shared_batches", ["worker"])


def downgrade() -> None:
    op.drop_index("ix_shared_batches_worker", "shared_batches")
    op.drop_table("shared_batches")
    op.drop_table("shared_audits")
    op.drop_column("jobs", "helpers")
