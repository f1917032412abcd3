"""Foreign text reaches the logs as text, in either format."""

import json

import pytest

from tests.servers import run_python

HOSTILE = "a\x1b[2J\r\n2026-01-01T00:00:00Z [info     ] forged\x00\x7f\x9b31m\u2028\u202etxt.exe\ud800"
LOG = f"""
import logging, sys
from jobs import logs

hostile = {HOSTILE!r}
logs.configure(sys.argv[1])
logger = logging.getLogger(hostile)
logger.info("first: %s", hostile, extra={{"name_of_key": hostile, "several": [hostile]}})
try:
    raise ValueError(hostile)
except ValueError:
    logger.exception("second")
logger.info("third: Zoë, 汉字, 12 °C")
"""


@pytest.fixture(params=["text", "json"])
def log_lines(request: pytest.FixtureRequest) -> tuple[str, list[str]]:
    """Return the format, and the lines that a process logs in that format."""
    with run_python(LOG, request.param) as process:
        _, stderr = process.communicate(timeout=60)
    assert process.returncode == 0, stderr
    return request.param, stderr.split("\n")


def test_nothing_drives_a_terminal(log_lines: tuple[str, list[str]]) -> None:
    """Every character of the log is printable; control characters and those that reorder text are escaped."""
    _, lines = log_lines
    assert [line for line in lines if not line.isprintable()] == []


def test_nothing_begins_a_line(log_lines: tuple[str, list[str]]) -> None:
    """A line break in a name, a value or an error's message starts no line of the log."""
    form, lines = log_lines
    if form == "json":
        events = [json.loads(line) for line in lines if line]
        assert [event["event"] for event in events] == [f"first: {HOSTILE}", "second", "third: Zoë, 汉字, 12 °C"]
        return
    own = [line for line in lines if line and not line.startswith("    ")]
    assert len(own) == 3
    assert (
        "first: a\\x1b[2J\\r\\n2026-01-01T00:00:00Z [info     ] forged\\x00\\x7f\\x9b31m\\u2028\\u202etxt.exe\\ud800"
        in own[0]
    )
    assert "third: Zoë, 汉字, 12 °C" in own[2]
    assert any("forged" in line for line in lines if line.startswith("    "))
