"""Logs on stderr: text for people, or one JSON object a line, with the ids of the request or job that a line is about.

Text from strangers reaches the logs: paths, queries, names, messages of errors. None of it can begin a line or control a
terminal. JSON escapes all but printable ASCII. Text has Python's escapes in place of characters that are not printable, and
indents tracebacks.
"""

import logging
import sys
from collections.abc import Sequence
from typing import Literal

import structlog
from structlog.types import EventDict, Processor, WrappedLogger

Form = Literal["text", "json"]

_FIRST: Sequence[Processor] = (
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_log_level,
    structlog.stdlib.add_logger_name,
    structlog.stdlib.ExtraAdder(),
    structlog.processors.TimeStamper(fmt="iso", utc=True),
    structlog.processors.CallsiteParameterAdder([structlog.processors.CallsiteParameter.PROCESS]),
)


def configure(form: Form) -> None:
    """Send the logs of all libraries of this process to stderr, in this form."""
    plain = structlog.dev.ConsoleRenderer(colors=False, exception_formatter=structlog.dev.plain_traceback)
    last: list[Processor] = [structlog.processors.JSONRenderer()] if form == "json" else [_escape, plain]
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=_FIRST,
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            structlog.processors.format_exc_info,
            *last,
        ],
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter)
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    logging.captureWarnings(True)
    logging.getLogger("alembic").setLevel(logging.WARNING)


def _escape(logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
    """Return the event with printable characters only, but for the line breaks of a traceback, whose lines are indented."""
    traceback = event.pop("exception", None)
    escaped = {
        name: value if isinstance(value, int | float) else _printable(str(value)) for name, value in event.items()
    }
    if traceback is not None:
        escaped["exception"] = "\n".join(f"    {_printable(line)}" for line in traceback.split("\n"))
    return escaped


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
