"""Add priorities, pauses and retries of jobs.

Revision: 0005
Revises: 0004
"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("jobs", sa.Column("priority", sa.Integer(), nullable=False, server_default="0"))
    op.add_column("jobs", sa.Column("pause_requested", sa.Boolean(), nullable=False, server_default=sa.false()))
    op.add_column("jobs", sa.Column("retry_of", sa.String(), nullable=True))
    op.create_index("ix_jobs_state_priority_id", "jobs", ["state", "priority", "id"])


def downgrade() -> None:
    op.execute("UPDATE jobs SET state = 'queued' WHERE state = 'paused'")
    op.drop_index("ix_jobs_state_priority_id", "jobs")
    for column in ("retry_of", "pause_requested", "priority"):
        op.drop_column("jobs", column)
