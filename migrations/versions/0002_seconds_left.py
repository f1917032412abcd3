"""Add the seconds that a running audit still takes at most.

Revision: 0002
Revises: 0001
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("jobs", sa.Column("seconds_left", sa.Double(), nullable=True))


def downgrade() -> None:
    op.drop_column("jobs", "seconds_left")
