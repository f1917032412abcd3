"""Data sets may lose their file.

Revision: 0006
Revises: 0005
"""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("datasets") as datasets:
        datasets.alter_column("sha256", existing_type=sa.String(), nullable=True)


def downgrade() -> None:
    # What was deleted had stayed for those that name it; a version without deletion has no place for it.
    op.execute("DELETE FROM datasets WHERE sha256 IS NULL")
    op.execute("UPDATE models SET state = 'rejected' WHERE state = 'deleted'")
    with op.batch_alter_table("datasets") as datasets:
        datasets.alter_column("sha256", existing_type=sa.String(), nullable=False)
