"""The worker beside the web service, with a stand-in that only writes its process id and sleeps."""

import os
import signal
import sys
import time
from pathlib import Path

import pytest

from api.commands.local_worker import WorkerProcess

PROGRAM = """
import os, signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: (open(sys.argv[1], 'a').write('stopped '), sys.exit(0)))
open(sys.argv[1], 'a').write(f'{os.getpid()} ')
time.sleep(60)
"""


def words(file: Path, count: int) -> list[str]:
    """The first `count` words of the file, as soon as they are there."""
    deadline = time.monotonic() + 20
    while not file.exists() or len(file.read_text().split()) < count:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return file.read_text().split()


@pytest.fixture
def told(tmp_path: Path) -> Path:
    """The file that the stand-in writes into."""
    return tmp_path / "told"


def test_a_worker_that_dies_is_started_again(told: Path) -> None:
    """After `kill -9` another worker takes its place."""
    with WorkerProcess([sys.executable, "-c", PROGRAM, str(told)], pause_seconds=0.05):
        first = int(words(told, 1)[0])
        os.kill(first, signal.SIGKILL)
        assert int(words(told, 2)[1]) != first


def test_the_worker_stops_with_the_service(told: Path) -> None:
    """At the end of the block the worker has been told to stop and is gone."""
    with WorkerProcess([sys.executable, "-c", PROGRAM, str(told)]):
        worker = int(words(told, 1)[0])
    assert words(told, 2)[1] == "stopped"
    with pytest.raises(ProcessLookupError):
        os.kill(worker, 0)
