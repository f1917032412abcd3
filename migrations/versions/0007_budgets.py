"""Add budgets and deadlines of jobs, and the seconds they ran.

Revision: 0007
Revises: 0006
"""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("jobs", sa.Column("budget_minutes", sa.Double(), nullable=True))
    op.add_column("jobs", sa.Column("deadline", sa.DateTime(timezone=True), nullable=True))
    op.add_column("jobs", sa.Column("seconds_run", sa.Double(), nullable=False, server_default="0"))


def downgrade() -> None:
    for column in ("seconds_run", "deadline", "budget_minutes"):
        op.drop_column("jobs", column)
