"""Alembic's environment: connects to the database through `jobs.database.upgrade`, or by the settings."""

from typing import Any, Literal

from alembic import context
from sqlalchemy import Connection, text

from jobs import startup
from jobs.clock import UtcDateTime
from jobs.database import migration_engine
from jobs.sharing_tables import SharedAudit

LOCK = 0x4641_414C  # "FAAL": any number that no other program locks in this database


def render_item(kind: str, item: object, autogen_context: object) -> str | Literal[False]:
    """Return our own column type as the plain type behind it: a revision must not change when our code does."""
    return "sa.DateTime(timezone=True)" if kind == "type" and isinstance(item, UtcDateTime) else False


def migrate(connection: Connection) -> None:
    """Run the migrations in one transaction, which only one process at a time can enter."""
    context.configure(
        connection=connection,
        target_metadata=SharedAudit.metadata,
        render_as_batch=True,  # SQLite changes tables by copying them
        render_item=render_item,
        transactional_ddl=True,
        compare_type=True,
    )
    with context.begin_transaction():
        if connection.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": LOCK})
        context.run_migrations()


connection: Any = context.config.attributes.get("connection")
if connection is not None:
    migrate(connection)
else:
    with startup.exit_on_fault():
        url = startup.read_settings().database_url
        with startup.report_database_faults(url):
            own = migration_engine(url).connect()
        with own:
            migrate(own)
