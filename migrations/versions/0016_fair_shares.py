"""Add outages, a delay after an outage, maximum priorities of keys and indexes of files; remove the rings.

Revision: 0016
Revises: 0015
"""

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None

_FILES = [
    ("models", "upload_sha256"),
    ("models", "sha256"),
    ("datasets", "sha256"),
    ("jobs", "trained_sha256"),
    ("partial_uploads", "sha256"),
    ("upload_parts", "sha256"),
]
_HIGHEST = 10  # what every key could ask for until now, and still can


def upgrade() -> None:
    with op.batch_alter_table("jobs") as table:
        table.add_column(sa.Column("outages", sa.Integer(), nullable=False, server_default="0"))
        table.add_column(sa.Column("not_before", sa.DateTime(timezone=True), nullable=True))
        table.drop_column("rung_at")
        table.create_index("ix_jobs_owner_started_at", ["owner", "started_at"])
    for table_name, column in _FILES:  # which a file's removal looks up
        op.create_index(f"ix_{table_name}_{column}", table_name, [column])
    op.add_column("api_keys", sa.Column("max_priority", sa.Integer(), nullable=False, server_default=str(_HIGHEST)))


def downgrade() -> None:
    op.drop_column("api_keys", "max_priority")
    for table_name, column in _FILES:
        op.drop_index(f"ix_{table_name}_{column}", table_name)
    with op.batch_alter_table("jobs") as table:
        table.drop_index("ix_jobs_owner_started_at")
        table.add_column(sa.Column("rung_at", sa.DateTime(timezone=True), nullable=True))
        table.drop_column("not_before")
        table.drop_column("outages")
