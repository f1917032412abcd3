"""The broker without a server."""

from pathlib import Path

import pytest
from kombu import Connection  # type: ignore[attr-defined]

from tests.servers import run_python

MESSAGES = 200
BODY = "x" * 300_000  # long enough to be met half-written
TAKE_ALL = """
import sys
from queue import Empty
import pytest
from kombu import Connection

transport = {"transport": "jobs.folder_broker:Transport", "transport_options": {"folder": sys.argv[1]}}
with Connection("folder://localhost", **transport) as connection:
    while True:
        try:
            body = connection.default_channel._get("q")["body"]
        except Empty:
            continue
        if body == "end":
            break
        print(body[:10], len(body), sep=":")
"""


def _connection(folder: Path) -> Connection:
    options = {"folder": str(folder)}
    return Connection("folder://localhost", transport="jobs.folder_broker:Transport", transport_options=options)


def test_busy_readers_get_whole_messages_once(tmp_path):
    """Two processes that read without a pause while a third writes get every message whole, and each message once."""
    with run_python(TAKE_ALL, str(tmp_path)) as one, run_python(TAKE_ALL, str(tmp_path)) as other:
        with _connection(tmp_path) as connection:
            for number in range(MESSAGES):
                connection.default_channel._put("q", {"body": f"{number:010}{BODY}"})
            for _ in range(2):
                connection.default_channel._put("q", {"body": "end"})
        messages = [line for reader in (one, other) for line in reader.communicate(timeout=120)[0].split()]
    assert (one.returncode, other.returncode) == (0, 0)
    assert sorted(messages) == [f"{number:010}:{10 + len(BODY)}" for number in range(MESSAGES)]
    assert list(tmp_path.iterdir()) == []


def test_the_oldest_message_comes_first(tmp_path):
    """Messages arrive in the order in which they were written, queue by queue, and a purge empties one queue."""
    with _connection(tmp_path) as connection:
        channel = connection.default_channel
        for number in range(3):
            channel._put("a", {"number": number})
            channel._put("b", {"number": -number})
        assert [channel._get("a")["number"] for _ in range(3)] == [0, 1, 2]
        assert (channel._size("a"), channel._size("b")) == (0, 3)
        assert channel._purge("b") == 3
        assert channel._size("b") == 0


def test_a_wait_for_messages_is_short(tmp_path):
    """Where no message comes, a wait of an hour ends at once: Celery asks between two waits whether to stop."""
    with _connection(tmp_path) as connection, pytest.raises(TimeoutError):
        connection.drain_events(timeout=3600)
