"""Let data sets be deleted: their file may be null.

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
    op.execute("UPDATE datasets SET sha256 = NULL WHERE state = 'rejected'")


def downgrade() -> None:
    # What was deleted had stayed for those that name it; a version without deletion has no place for it.
    op.execute("DELETE FROM datasets WHERE sha256 IS NULL")
    error = """'{"code": "deleted", "message": "It was deleted."}'"""
    op.execute(f"UPDATE models SET state = 'rejected', error = {error} WHERE state = 'deleted'")  # noqa: S608 - no input
    with op.batch_alter_table("datasets") as datasets:
        datasets.alter_column("sha256", existing_type=sa.String(), nullable=False)
