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
    """Return the first `count` words of the file, as soon as it contains them."""
    deadline = time.monotonic() + 20
    while not file.exists() or len(file.read_text().split()) < count:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return file.read_text().split()


@pytest.fixture
def output_file(tmp_path: Path) -> Path:
    """Return the path of the file that the stand-in writes."""
    return tmp_path / "told"


def test_a_worker_that_dies_is_started_again(output_file: Path) -> None:
    """After `kill -9` another worker takes its place."""
    with WorkerProcess([sys.executable, "-c", PROGRAM, str(output_file)], pause_seconds=0.05):
        first = int(words(output_file, 1)[0])
        os.kill(first, signal.SIGKILL)
        assert int(words(output_file, 2)[1]) != first


def test_the_worker_stops_with_the_service(output_file: Path) -> None:
    """At the end of the block the worker has received SIGTERM and has ended."""
    with WorkerProcess([sys.executable, "-c", PROGRAM, str(output_file)]):
        worker = int(words(output_file, 1)[0])
    assert words(output_file, 2)[1] == "stopped"
    with pytest.raises(ProcessLookupError):
        os.kill(worker, 0)
