"""Add the digest of a model's weights, beside that of the file that holds them.

Revision: 0013
Revises: 0012
"""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("models", sa.Column("weights_sha256", sa.String(), nullable=True))


def downgrade() -> None:
    op.drop_column("models", "weights_sha256")
