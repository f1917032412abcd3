"""Add the warnings that put the falls of a plan's run in doubt.

Revision: 0023
Revises: 0022
"""

import sqlalchemy as sa
from alembic import op

revision = "0023"
down_revision = "0022"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("plan_runs", sa.Column("doubtful", sa.JSON(), nullable=True))
    op.add_column("plan_runs", sa.Column("doubtful_falls", sa.Integer(), nullable=True))


def downgrade() -> None:
    for column in ("doubtful_falls", "doubtful"):
        op.drop_column("plan_runs", column)
