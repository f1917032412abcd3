"""Processes are stopped with all their children, and never outlive their parent."""

import os
import signal
import subprocess
import sys

from tests.service.processes import is_gone, wait_until
from worker.process_group import ProcessGroup

SLEEP = "import time; time.sleep(60)"
SLEEP_STUBBORNLY = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); {SLEEP}"
LEAVE_A_SLEEPER = f"import subprocess, sys; print(subprocess.Popen([sys.executable, '-c', '{SLEEP}']).pid, flush=True)"
BOUND = "import os; from worker.process_group import end_with_parent; end_with_parent(os.getppid()); print(os.getpid(), flush=1)"
START_AND_BE_KILLED = f"""
import os, signal, subprocess, sys
started = subprocess.Popen([sys.executable, "-c", "{BOUND}; {SLEEP}"], stdout=subprocess.PIPE)
print(started.stdout.readline().decode(), end="", flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def run(code: str, *arguments: str) -> ProcessGroup:
    """Return a group whose leader runs that code."""
    return ProcessGroup([sys.executable, "-c", code, *arguments], dict(os.environ))


def test_end_is_noticed_and_the_status_told():
    """A process that ends by itself is reported as ended, with its exit status."""
    process = run("raise SystemExit(7)")
    assert process.has_ended(within_seconds=20)
    assert process.close() == 7


def test_running_process_has_not_ended():
    """A process that runs has not ended, and closing it kills it."""
    process = run(SLEEP)
    assert not process.has_ended(within_seconds=0.1)
    assert process.close() == -signal.SIGKILL


def test_leader_is_asked_to_end():
    """A process that is asked to end, and does not ignore the signal, ends."""
    process = run(SLEEP)
    process.terminate()
    assert process.has_ended(within_seconds=20)
    assert process.close() == -signal.SIGTERM


def test_stubborn_leader_is_killed(capfd):
    """A process that ignores the request to end can be killed."""
    process = run(SLEEP_STUBBORNLY)
    wait_until(lambda: bool(capfd.readouterr().out), within_seconds=20)
    process.terminate()
    assert not process.has_ended(within_seconds=0.3)
    process.kill()
    assert process.has_ended(within_seconds=20)
    assert process.close() == -signal.SIGKILL


def test_descendants_end_with_the_group(capfd):
    """The remaining children of an ended process are killed with its group."""
    process = run(LEAVE_A_SLEEPER)
    assert process.has_ended(within_seconds=20)
    process_id = int(capfd.readouterr().out)
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
    code = "import os; from worker.process_group import end_with_parent; end_with_parent(os.getppid() + 1)"
    orphan = subprocess.run([sys.executable, "-c", code], stderr=subprocess.PIPE, check=False)
    assert orphan.returncode == 1
    assert b"ended before this one was ready" in orphan.stderr
