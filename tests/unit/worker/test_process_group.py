"""Processes are stopped with all their children, and never outlive their parent."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import pytest

from tests.service.processes import is_gone, wait_until
from worker.process_group import ProcessGroup
from worker.warm_process import ForkedProcess, WarmProcess

SLEEP = "import time; time.sleep(60)"
SLEEP_STUBBORNLY = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); {SLEEP}"
LEAVE_A_SLEEPER = f"import subprocess, sys; print(subprocess.Popen([sys.executable, '-c', '{SLEEP}']).pid, flush=True)"
BOUND = "import os; from faal_core.lifetime import end_with_parent; end_with_parent(os.getppid()); print(os.getpid(), flush=1)"
START_AND_BE_KILLED = f"""
import os, signal, subprocess, sys
started = subprocess.Popen([sys.executable, "-c", "{BOUND}; {SLEEP}"], stdout=subprocess.PIPE)
print(started.stdout.readline().decode(), end="", flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


class Start(Protocol):
    """Starts a group whose leader runs the code and writes to the file."""

    def __call__(self, code: str, output: Path) -> ProcessGroup | ForkedProcess:
        """Return the group."""


def start_new(code: str, output: Path) -> ProcessGroup:
    """Start a new process."""
    with output.open("wb") as file:
        return ProcessGroup([sys.executable, "-c", code], dict(os.environ), file)


@pytest.fixture(scope="module", params=["new process", "fork"])
def run(request: pytest.FixtureRequest) -> Iterator[Start]:
    """Yield a function that starts a new process, or a fork of a warm one."""
    if request.param == "new process":
        yield start_new
        return
    function, environment = "tests.unit.worker.forked_functions:run_code", dict(os.environ)
    with WarmProcess([], environment) as warm:

        def fork(code: str, output: Path) -> ForkedProcess:
            return warm.client.start(function, code, environment=environment, process_name="faal-job", output=output)

        yield fork


def test_end_is_noticed_and_the_status_told(run, tmp_path):
    """A process that ends by itself is reported as ended, with its exit status."""
    process = run("raise SystemExit(7)", tmp_path / "output")
    assert process.has_ended(within_seconds=20)
    assert process.close() == 7


def test_running_process_has_not_ended(run, tmp_path):
    """A process that runs has not ended, and closing it kills it."""
    process = run(SLEEP, tmp_path / "output")
    assert not process.has_ended(within_seconds=0.1)
    assert process.close() == -signal.SIGKILL


def test_leader_is_asked_to_end(run, tmp_path):
    """A process that is asked to end, and does not ignore the signal, ends."""
    process = run(SLEEP, tmp_path / "output")
    process.terminate()
    assert process.has_ended(within_seconds=20)
    assert process.close() == -signal.SIGTERM


def test_stubborn_leader_is_killed(run, tmp_path):
    """A process that ignores the request to end can be killed."""
    process = run(SLEEP_STUBBORNLY, tmp_path / "output")
    wait_until(lambda: bool((tmp_path / "output").exists() and (tmp_path / "output").read_text()), within_seconds=20)
    process.terminate()
    assert not process.has_ended(within_seconds=0.3)
    process.kill()
    assert process.has_ended(within_seconds=20)
    assert process.close() == -signal.SIGKILL


def test_descendants_end_with_the_group(run, tmp_path):
    """The remaining children of an ended process are killed with its group."""
    process = run(LEAVE_A_SLEEPER, tmp_path / "output")
    assert process.has_ended(within_seconds=20)
    process_id = int((tmp_path / "output").read_text())
    assert not is_gone(process_id)
    process.close()
    wait_until(lambda: is_gone(process_id), within_seconds=10)


def test_process_ends_with_its_parent():
    """A process bound to its parent is killed by the kernel when the parent is killed."""
    parent = subprocess.run([sys.executable, "-c", START_AND_BE_KILLED], stdout=subprocess.PIPE, check=False)
    assert parent.returncode == -signal.SIGKILL
    wait_until(lambda: is_gone(int(parent.stdout)), within_seconds=10)


def test_parent_that_ended_too_early_is_noticed():
    """A process whose parent ended before the binding leaves at once."""
    code = "import os; from faal_core.lifetime import end_with_parent; end_with_parent(os.getppid() + 1)"
    orphan = subprocess.run([sys.executable, "-c", code], stderr=subprocess.PIPE, check=False)
    assert orphan.returncode == 1
    assert b"ended before this one was ready" in orphan.stderr
