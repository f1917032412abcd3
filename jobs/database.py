"""Sessions on PostgreSQL or SQLite, and the schema's upgrade.

`sessions()` reads and `sessions.begin()` writes; those of `sessions.for_owner(owner)` see the rows of one owner only. On
SQLite a writing transaction takes the write lock when it begins (one that reads first cannot wait for the lock and
fails with "database is locked"), and a reading one never waits. A reading session cannot write, on either database.

Every wait for PostgreSQL has a limit, also when the server is frozen or a network drops its packets. In these cases
neither the server's own time-outs nor TCP's help.
"""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache, partial
from pathlib import Path
from sqlite3 import SQLITE_BUSY, SQLITE_ERROR
from sqlite3 import Connection as SqliteConnection
from sqlite3 import OperationalError as SqliteError
from typing import Any

import psycopg
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from psycopg import errors as postgres
from psycopg.abc import RV, PQGen
from sqlalchemy import URL, Connection, Engine, NullPool, create_engine, event, make_url
from sqlalchemy.exc import InterfaceError, OperationalError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as NoConnectionToSpare
from sqlalchemy.orm import ORMExecuteState, Session, sessionmaker, with_loader_criteria
from sqlalchemy.orm.interfaces import ORMOption

from jobs.errors import CannotStart
from jobs.plan_tables import Plan, PlanRun
from jobs.study_tables import Study, StudyRun
from jobs.tables import Dataset, Job, Model, PartialUpload, ReportOutcomes, UploadPart, Webhook, WebhookMessage

OWNED = (
    Plan,
    Study,
    Job,
    PlanRun,
    StudyRun,
    Model,
    Dataset,
    ReportOutcomes,
    PartialUpload,
    UploadPart,
    Webhook,
    WebhookMessage,
)
"""The tables whose rows belong to an owner; events, reports and links belong to the owner of their job.

`keys.issue` changes all owners, in this order, and must miss no row. So it waits until the transactions of requests without a key
have ended (`keys.open_keyless`). A worker that adds a row first locks the job or the plan that the row is for, whose table is
listed before.
"""
_OWNER = "owner"  # in `Session.info`

LOCK_SECONDS = 30.0
CONNECT_SECONDS = 5  # until PostgreSQL has accepted a connection
POOL_SECONDS = 5.0  # for a connection of the pool to become free
ANSWER_SECONDS = 10.0  # for a statement; with CONNECT_SECONDS this bounds a request to 15 s
_SERVER_LIMITS = f"""
    SET statement_timeout = '{ANSWER_SECONDS:g}s';
    SET idle_in_transaction_session_timeout = '60s'
"""
FindOwner = Callable[[Session], str]
DatabaseFailure = SQLAlchemyError
"""The base class of the errors that sessions raise."""


class SchemaTooNew(CannotStart):
    """A later version of FAAL has migrated the database."""


class Sessions(sessionmaker[Session]):
    """Where sessions come from: `sessions()` for reading, `with sessions.begin() as session` for writing.

    Attributes:
        everybody: sessions that see the rows of all owners.
    """

    def __init__(self, engine: Engine, **options: Any) -> None:  # noqa: ANN401 - those of `sessionmaker`
        reading = engine.execution_options(faal_reads=True, postgresql_readonly=True)
        super().__init__(reading, expire_on_commit=False, **options)
        self.engine = engine
        self.everybody = self
        self._find_owner: FindOwner | None = None
        self._scoped: dict[tuple[str, FindOwner | None], Sessions] = {}

    def for_owner(self, owner: str, find_owner: FindOwner | None = None) -> "Sessions":
        """Return sessions in which no ORM statement finds, changes or counts the rows of another owner.

        Args:
            find_owner: called at the beginning of each writing transaction; it returns the owner that the session then has.

        This does not cover statements about bare tables, bulk updates by primary key, or events and reports, which are
        reached through their job.

        Source: SQLAlchemy's documentation, "Adding global WHERE / ON criteria".
        """
        if (owner, find_owner) not in self._scoped:
            scoped = Sessions(self.engine, info={_OWNER: owner})
            scoped.everybody, scoped._find_owner = self.everybody, find_owner

            def hide_others(state: ORMExecuteState) -> None:
                if not state.is_insert:
                    state.statement = state.statement.options(*_criteria(read_owner(state.session)))

            event.listen(scoped, "do_orm_execute", hide_others)
            self._scoped[owner, find_owner] = scoped
        return self._scoped[owner, find_owner]

    @contextmanager
    def begin(self) -> Iterator[Session]:
        """Open a session that may write; commit at the end of the block, roll back on any exception."""
        with self(bind=self.engine) as session, session.begin():
            if self._find_owner is not None:
                session.info[_OWNER] = self._find_owner(session)
            yield session

    def close(self) -> None:
        """Close all connections."""
        self.engine.dispose()


def read_owner(session: Session) -> str:
    """Return the owner whose rows the session shows; only for sessions of `Sessions.for_owner`."""
    owner: str = session.info[_OWNER]
    return owner


@lru_cache(maxsize=1024)
def _criteria(owner: str) -> tuple[ORMOption, ...]:
    return tuple(with_loader_criteria(table, table.owner == owner, include_aliases=True) for table in OWNED)


def open_database(url: str, *, pooled: bool = True) -> Sessions:
    """Return sessions on the database at `url`. A worker takes no pool: it holds no connection while a job computes."""
    return Sessions(_engine(url, pooled=pooled))


def is_unavailable(error: Exception) -> bool:
    """Return whether the error means a database that does not answer, shuts down, stays locked or has no connection to spare."""
    if isinstance(error, OperationalError | InterfaceError):
        return getattr(error.orig, "sqlite_errorcode", None) != SQLITE_ERROR  # which is a wrong statement
    return isinstance(error, NoConnectionToSpare)


def is_up_to_date(url: str) -> bool:
    """Return whether the database has the schema of this version; takes no lock. Raises: SchemaTooNew."""
    engine = _engine(url, pooled=False)
    with engine.execution_options(faal_reads=True).connect() as connection:
        current = set(MigrationContext.configure(connection).get_current_heads())
    script = ScriptDirectory.from_config(_migrations())
    heads = set(script.get_heads())
    if unknown := current - {step.revision for step in script.walk_revisions()}:
        raise SchemaTooNew(
            f"A later version of FAAL has migrated the database, to revision {', '.join(sorted(unknown))}; this version knows "
            f"revisions up to {', '.join(sorted(heads))}. Run the later version, or restore a backup from before its migration."
        )
    return current == heads


def upgrade(url: str) -> None:
    """Migrate the database at `url` to the schema of this version; several processes may do so at once. Raises: SchemaTooNew."""
    if is_up_to_date(url):
        return
    with migration_engine(url).connect() as connection:
        configuration = _migrations()
        configuration.attributes["connection"] = connection
        command.upgrade(configuration, "head")


def hide_password(url: str) -> str:
    """Return the URL as a log may show it."""
    return make_url(url).render_as_string(hide_password=True)


def migration_engine(url: str) -> Engine:
    """Return the engine of migrations: without foreign keys, since SQLite copies tables, and without a limit on statements."""
    return _engine(url, pooled=False, migrates=True)


def _migrations() -> Config:
    configuration = Config()
    configuration.set_main_option("script_location", "migrations:")
    return configuration


def _engine(url: str, *, pooled: bool, migrates: bool = False) -> Engine:
    parsed = make_url(url)
    options: dict[str, Any] = {"json_serializer": partial(json.dumps, allow_nan=False)}
    if parsed.get_backend_name() == "sqlite":
        return _sqlite_engine(parsed, options if pooled else {**options, "poolclass": NullPool}, not migrates)
    options |= {"pool_pre_ping": True, "pool_timeout": POOL_SECONDS} if pooled else {"poolclass": NullPool}
    engine = create_engine(parsed, **options)

    @event.listens_for(engine, "do_connect")
    def connect(
        _dialect: object, _record: object, arguments: list[Any], options: dict[str, Any]
    ) -> psycopg.Connection[Any]:
        options = {"connect_timeout": CONNECT_SECONDS, **options}
        return psycopg.connect(*arguments, **options) if migrates else _BoundedConnection.connect(*arguments, **options)

    return engine


class _BoundedConnection(psycopg.Connection[Any]):
    """A connection that is closed when a statement is not answered within `ANSWER_SECONDS`.

    The server has limits as well: it ends a statement after the same time, and a transaction whose client has vanished.
    """

    @classmethod
    def connect(cls, conninfo: str = "", **options: Any) -> "_BoundedConnection":  # noqa: ANN401 - psycopg's signature
        """Return an open connection with its limits. Raises: OperationalError."""
        connection = super().connect(conninfo, **options)
        connection.autocommit = True
        connection.execute(_SERVER_LIMITS)
        connection.autocommit = False
        return connection

    def wait(self, gen: PQGen[RV], interval: float = 0.1, timeout: float | None = None) -> RV:
        """Return what `gen` returns. Raises: OperationalError when the time is over; the connection is closed then."""
        try:
            return super().wait(gen, interval, ANSWER_SECONDS if timeout is None else timeout)
        except postgres._WaitTimeout:  # noqa: SLF001 - psycopg's documentation of `wait` names it
            self.pgconn.finish()
            raise postgres.OperationalError(f"the database did not answer within {ANSWER_SECONDS:g} s") from None


def _lower(value: object) -> str | None:
    """Return the value in small letters, as PostgreSQL's `lower` does."""
    return None if value is None else str(value).lower()


def _write_ahead(connection: SqliteConnection) -> None:
    """Let readers and a writer work at the same time. SQLite does not wait while another connection changes to this mode."""
    deadline = time.monotonic() + LOCK_SECONDS
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except SqliteError as error:
            if error.sqlite_errorcode != SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(0.01)
        else:
            return


def _sqlite_engine(url: URL, options: dict[str, Any], foreign_keys: bool) -> Engine:
    if url.database is None or url.database in ("", ":memory:"):
        raise ValueError(f"{url} names no file, and api and worker must share one: write sqlite:////path/to/faal.db")
    Path(url.database).parent.mkdir(parents=True, exist_ok=True)
    engine = create_engine(url, connect_args={"timeout": LOCK_SECONDS}, **options)

    @event.listens_for(engine, "connect")
    def configure(connection: SqliteConnection, record: object) -> None:
        # Source: SQLAlchemy's documentation, "Using SQLAlchemy to emit BEGIN in lieu of SQLite's transaction control".
        connection.isolation_level = None
        # SQLite's own knows the letters of ASCII only. No index or constraint of the schema uses it.
        connection.create_function("lower", 1, _lower, deterministic=True)
        _write_ahead(connection)
        connection.execute(f"PRAGMA foreign_keys = {'ON' if foreign_keys else 'OFF'}")

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        reads = connection.get_execution_options().get("faal_reads", False)
        connection.exec_driver_sql(f"PRAGMA query_only = {'ON' if reads else 'OFF'}")
        connection.exec_driver_sql("BEGIN" if reads else "BEGIN IMMEDIATE")

    return engine
