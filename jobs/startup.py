"""Checks before a process starts. A fault of the installation is one line in the log, not a traceback."""

import logging
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from jobs.database import DatabaseFailure, hide_password, is_up_to_date, upgrade
from jobs.errors import CannotStart
from jobs.settings import Settings

logger = logging.getLogger(__name__)


@contextmanager
def exit_on_fault() -> Iterator[None]:
    """Log a CannotStart or an OSError of the block in one line, and exit with status 1.

    Before `logs.configure` the line is plain text on stderr.
    """
    try:
        yield
    except (CannotStart, OSError) as fault:
        logger.error("Not started: %s", _in_one_line(fault))
        sys.exit(1)


def read_settings() -> Settings:
    """Return the settings of this process's environment. Raises: CannotStart, which names each wrong variable."""
    try:
        return Settings()
    except ValidationError as error:
        # Defaults that depend on a wrong value are no faults of their own.
        faults = [_fault(details) for details in error.errors() if details["type"] != "default_factory_not_called"]
        raise CannotStart(f"{'; '.join(faults)}. docs/reference/settings.md describes each variable.") from None


def prepare(settings: Settings, *folders: Path) -> None:
    """Make the folders and write to them, then check the database's schema; on SQLite, upgrade it. Raises: CannotStart."""
    for folder in folders:
        _require_writable(folder)
    url = settings.database_url
    with report_database_faults(url):
        current = is_up_to_date(url)
    if url.startswith("sqlite"):
        upgrade(url)
    elif not current:
        raise CannotStart("The database has the schema of an earlier version. Run `alembic upgrade head` first.")


@contextmanager
def report_database_faults(url: str) -> Iterator[None]:
    """Raise CannotStart, which names the database without its password, where the database fails within the block."""
    try:
        yield
    except (DatabaseFailure, ValueError) as error:
        cause = getattr(error, "orig", None) or error
        message = f"The database {hide_password(url)} (FAAL_DATABASE_URL) cannot be used: {_in_one_line(cause)}"
        raise CannotStart(message) from error


def _fault(details: ErrorDetails) -> str:
    """Return the variable, its value unless it may hold a secret, and what is wrong with the value."""
    name = str(details["loc"][0])
    value = "" if name == "secret" or name.endswith("_url") else f"={details['input']!r}"
    return f"FAAL_{name.upper()}{value}: {details.get('ctx', {}).get('error') or details['msg']}"


def _require_writable(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise CannotStart(f"The folder {folder} cannot be written to: {error.strerror}.") from error


def _in_one_line(error: BaseException) -> str:
    return " ".join(str(error).split())
