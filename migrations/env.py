"""How Alembic reaches the database: by a connection from `jobs.database.upgrade`, else by the settings."""

from typing import Any, Literal

from alembic import context
from sqlalchemy import Connection, text

from jobs import startup
from jobs.clock import UtcDateTime
from jobs.database import migration_engine
from jobs.tables import Table

LOCK = 0x4641_414C  # "FAAL": any number that no other program locks in this database


def render_item(kind: str, item: object, autogen_context: object) -> str | Literal[False]:
    """Our own column type as the plain type behind it: a revision must not change when our code does."""
    return "sa.DateTime(timezone=True)" if kind == "type" and isinstance(item, UtcDateTime) else False


def migrate(connection: Connection) -> None:
    """The wanted revision, in one transaction that only one process at a time is in."""
    context.configure(
        connection=connection,
        target_metadata=Table.metadata,
        render_as_batch=True,  # SQLite changes tables by copying them
        render_item=render_item,
        transactional_ddl=True,
        compare_type=True,
    )
    with context.begin_transaction():
        if connection.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": LOCK})
        context.run_migrations()


given: Any = context.config.attributes.get("connection")
if given is not None:
    migrate(given)
else:
    with startup.faults_in_one_line():
        url = startup.read_settings().database_url
        with startup.database_faults(url):
            own = migration_engine(url).connect()
        with own:
            migrate(own)
