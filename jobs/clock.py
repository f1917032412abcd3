"""The database's clock, as a column type and an SQL expression: leases must not depend on the clocks of workers."""

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import DateTime, Float, SQLColumnExpression, literal
from sqlalchemy.engine import Dialect
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.types import TypeDecorator


class UtcDateTime(TypeDecorator[datetime]):
    """An aware time in UTC, on both databases (SQLite keeps no time zones)."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Return the time in UTC, as it is stored. Raises: ValueError for a naive time."""
        if value is not None and value.tzinfo is None:
            raise ValueError(f"{value} has no time zone")
        return value if value is None else value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Return the stored time as an aware time in UTC."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


_Time = SQLColumnExpression[datetime] | SQLColumnExpression[datetime | None]


class now(FunctionElement[datetime]):  # noqa: N801 - written like the SQL function it is
    """The time on the database's clock, moved by `seconds`."""

    type = UtcDateTime()
    inherit_cache = True

    def __init__(self, seconds: float = 0) -> None:
        super().__init__(literal(float(seconds), Float()))


@compiles(now, "postgresql")
def _on_postgresql(element: now, compiler: SQLCompiler, **options: Any) -> str:  # noqa: ANN401 - the hook's signature
    return f"(clock_timestamp() + make_interval(secs => {compiler.process(element.clauses, **options)}))"


@compiles(now, "sqlite")
def _on_sqlite(element: now, compiler: SQLCompiler, **options: Any) -> str:  # noqa: ANN401 - the hook's signature
    # To the millisecond, in the form SQLAlchemy writes times in: SQLite compares them as text.
    seconds = compiler.process(element.clauses, **options)
    return f"strftime('%Y-%m-%d %H:%M:%f', 'now', printf('%.3f seconds', {seconds}))"


class seconds_between(FunctionElement[float]):  # noqa: N801 - as for `now`
    """The seconds from one time to another; null where one of them is null."""

    type = Float()
    inherit_cache = True

    def __init__(self, start: _Time, end: _Time) -> None:
        super().__init__(start, end)


@compiles(seconds_between, "postgresql")
def _between_on_postgresql(element: seconds_between, compiler: SQLCompiler, **options: Any) -> str:  # noqa: ANN401
    start, end = (compiler.process(clause, **options) for clause in element.clauses)
    return f"CAST(EXTRACT(EPOCH FROM {end} - {start}) AS DOUBLE PRECISION)"


@compiles(seconds_between, "sqlite")
def _between_on_sqlite(element: seconds_between, compiler: SQLCompiler, **options: Any) -> str:  # noqa: ANN401
    start, end = (compiler.process(clause, **options) for clause in element.clauses)
    return f"((julianday({end}) - julianday({start})) * 86400.0)"
