"""Fine-tunings speak of validation images, interpolations and offset scales: specs, epochs and reports are renamed.

Revision: 0017
Revises: 0016
"""

import json
from collections.abc import Callable, Mapping
from typing import Any

import sqlalchemy as sa
from alembic import op

from faal_core.results.older_documents import (
    EPOCH,
    downgrade_report,
    downgrade_spec,
    rename,
    upgrade_report,
    upgrade_spec,
)

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None

_jobs = sa.table("jobs", sa.column("id"), sa.column("kind"), sa.column("spec", sa.JSON))
_events = sa.table("job_events", sa.column("job_id"), sa.column("seq"), sa.column("kind"), sa.column("body", sa.JSON))
_reports = sa.table("reports", sa.column("job_id"), sa.column("document"))
_finetunings = sa.select(_jobs.c.id).where(_jobs.c.kind == "finetune")


def upgrade() -> None:
    _rewrite(_jobs, _jobs.c.spec, upgrade_spec, _jobs.c.kind == "finetune")
    _rewrite(_events, _events.c.body, lambda body: rename(body, EPOCH), _events.c.kind == "epoch")
    _rewrite(_reports, _reports.c.document, _in_json(upgrade_report), _reports.c.job_id.in_(_finetunings))


def downgrade() -> None:
    older_epoch = {new: old for old, new in EPOCH.items()}
    _rewrite(_reports, _reports.c.document, _in_json(downgrade_report), _reports.c.job_id.in_(_finetunings))
    _rewrite(_events, _events.c.body, lambda body: rename(body, older_epoch), _events.c.kind == "epoch")
    _rewrite(_jobs, _jobs.c.spec, downgrade_spec, _jobs.c.kind == "finetune")


def _rewrite(
    table: sa.TableClause, column: sa.ColumnClause[Any], change: Callable[[Any], Any], chosen: sa.ColumnElement[bool]
) -> None:
    """Replace the values of a column, row by row: a report can have megabytes."""
    keys = [key for key in (table.c.get("id"), table.c.get("job_id"), table.c.get("seq")) if key is not None]
    connection = op.get_bind()
    for row in connection.execute(sa.select(*keys).where(chosen)).all():
        this = sa.and_(*(key == value for key, value in zip(keys, row, strict=True)))
        stored = connection.execute(sa.select(column).where(this)).scalar_one()
        connection.execute(sa.update(table).where(this).values({column: change(stored)}))


def _in_json(change: Callable[[Mapping[str, Any]], Mapping[str, Any]]) -> Callable[[str], str]:
    """Return the change of a document as a change of its JSON text."""
    return lambda text: json.dumps(change(json.loads(text)), separators=(",", ":"), ensure_ascii=False)
