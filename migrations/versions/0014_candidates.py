"""Add a fine-tuning's outcome, models of its candidates, and the trained weights that these are made from.

Revision: 0014
Revises: 0013
"""

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("models", sa.Column("candidate", sa.Integer(), nullable=True))
    with op.batch_alter_table("jobs") as jobs:
        jobs.add_column(sa.Column("finding", sa.JSON(none_as_null=True), nullable=True))
        jobs.add_column(sa.Column("trained_sha256", sa.String(), nullable=True))
        jobs.create_foreign_key("fk_jobs_trained_sha256", "artifacts", ["trained_sha256"], ["sha256"])
    op.create_index("ix_models_parent_job_id", "models", ["parent_job_id"])


def downgrade() -> None:
    op.drop_index("ix_models_parent_job_id", "models")
    with op.batch_alter_table("jobs") as jobs:
        jobs.drop_constraint("fk_jobs_trained_sha256", type_="foreignkey")
        jobs.drop_column("trained_sha256")
        jobs.drop_column("finding")
    op.execute("DELETE FROM job_events WHERE job_id IN (SELECT id FROM jobs WHERE kind = 'make-candidate')")
    op.execute("DELETE FROM jobs WHERE kind = 'make-candidate'")
    # Without its job a candidate's model would wait for ever.
    error = """'{"code": "job-cancelled", "message": "The job that made it was removed by a downgrade."}'"""
    op.execute(
        f"UPDATE models SET state = 'rejected', error = {error}, upload_sha256 = NULL "  # noqa: S608 - no input
        "WHERE candidate IS NOT NULL AND state = 'validating'"
    )
    op.drop_column("models", "candidate")
