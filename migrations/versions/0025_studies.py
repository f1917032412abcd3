"""Add studies, which fine-tune one model by several methods with several seeds, and their jobs.

Revision: 0025
Revises: 0024
"""

import sqlalchemy as sa
from alembic import op

revision = "0025"
down_revision = "0024"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "studies",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("owner", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("model_id", sa.String(), nullable=False),
        sa.Column("dataset", sa.String(), nullable=False),
        sa.Column("methods", sa.JSON(), nullable=False),
        sa.Column("seeds", sa.JSON(), nullable=False),
        sa.Column("idempotency_key", sa.String(), nullable=True),
        sa.Column("payload_sha256", sa.String(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["model_id"], ["models.id"], name="fk_studies_model_id"),
        sa.PrimaryKeyConstraint("id", name="pk_studies"),
        sa.UniqueConstraint("owner", "idempotency_key", name="uq_studies_owner_idempotency_key"),
    )
    op.create_index("ix_studies_owner_id", "studies", ["owner", "id"])
    op.create_table(
        "study_runs",
        sa.Column("study_id", sa.String(), nullable=False),
        sa.Column("method", sa.Integer(), nullable=False),
        sa.Column("seed", sa.Integer(), nullable=False),
        sa.Column("owner", sa.String(), nullable=False),
        sa.Column("job_id", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(["study_id"], ["studies.id"], name="fk_study_runs_study_id"),
        sa.PrimaryKeyConstraint("study_id", "method", "seed", name="pk_study_runs"),
        sa.UniqueConstraint("job_id", name="uq_study_runs_job_id"),
    )


def downgrade() -> None:
    op.drop_table("study_runs")
    op.drop_index("ix_studies_owner_id", "studies")
    op.drop_table("studies")
