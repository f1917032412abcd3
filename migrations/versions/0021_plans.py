"""Add plans, which audit the versions of a model again, and their runs.

Revision: 0021
Revises: 0020
"""

import sqlalchemy as sa
from alembic import op

revision = "0021"
down_revision = "0020"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "plans",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("owner", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("model_name", sa.String(), nullable=False),
        sa.Column("dataset", sa.String(), nullable=False),
        sa.Column("spec", sa.JSON(), nullable=False),
        sa.Column("policy", sa.JSON(), nullable=True),
        sa.Column("max_priority", sa.Integer(), nullable=False),
        sa.Column("every_hours", sa.Integer(), nullable=True),
        sa.Column("due_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("seen_model_id", sa.String(), nullable=False),
        sa.Column("run_job_id", sa.String(), nullable=True),
        sa.Column("baseline_job_id", sa.String(), nullable=True),
        sa.Column("paused_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("error", sa.JSON(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["baseline_job_id"], ["jobs.id"], name="fk_plans_baseline_job_id"),
        sa.PrimaryKeyConstraint("id", name="pk_plans"),
    )
    op.create_index("ix_plans_owner_id", "plans", ["owner", "id"])
    op.create_index("ix_plans_baseline_job_id", "plans", ["baseline_job_id"])
    op.create_table(
        "plan_runs",
        sa.Column("job_id", sa.String(), nullable=False),
        sa.Column("plan_id", sa.String(), nullable=False),
        sa.Column("owner", sa.String(), nullable=False),
        sa.Column("model_id", sa.String(), nullable=False),
        sa.Column("trigger", sa.String(), nullable=False),
        sa.Column("worst_class", sa.JSON(), nullable=True),
        sa.Column("gate", sa.String(), nullable=True),
        sa.Column("baseline_job_id", sa.String(), nullable=True),
        sa.Column("comparison_id", sa.String(), nullable=True),
        sa.Column("verdict", sa.String(), nullable=True),
        sa.Column("falls", sa.Integer(), nullable=True),
        sa.Column("error", sa.JSON(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["plan_id"], ["plans.id"], name="fk_plan_runs_plan_id"),
        sa.PrimaryKeyConstraint("job_id", name="pk_plan_runs"),
    )
    op.create_index("ix_plan_runs_plan_id_job_id", "plan_runs", ["plan_id", "job_id"])
    op.create_index("ix_models_owner_name_id", "models", ["owner", "name", "id"])


def downgrade() -> None:
    op.drop_index("ix_models_owner_name_id", "models")
    op.drop_table("plan_runs")
    op.drop_table("plans")
