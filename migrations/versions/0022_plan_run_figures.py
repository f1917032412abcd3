"""Add the mean of a plan's run, and its changes against the baseline.

Revision: 0022
Revises: 0021
"""

import sqlalchemy as sa
from alembic import op

revision = "0022"
down_revision = "0021"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("plan_runs", sa.Column("robust_mean", sa.Double(), nullable=True))
    op.add_column("plan_runs", sa.Column("worst_change", sa.JSON(), nullable=True))
    op.add_column("plan_runs", sa.Column("mean_change", sa.JSON(), nullable=True))


def downgrade() -> None:
    for column in ("mean_change", "worst_change", "robust_mean"):
        op.drop_column("plan_runs", column)
