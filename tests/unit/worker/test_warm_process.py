"""A warm process forks for each request; a fork depends only on the process that requested it."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.service.processes import command_name, descendants, is_gone, wait_until
from worker.app import WARM_MODULES
from worker.warm_process import ForkedProcess, WarmProcess

HOLD = "tests.unit.worker.forked_functions:hold"
REQUEST_AND_BE_KILLED = f"""
import os, signal
from worker.warm_process import STARTED, WarmProcess
with WarmProcess([], dict(os.environ)) as warm:
    fork = warm.client.start("{HOLD}", environment=dict(os.environ), process_name="faal-job")
    while STARTED not in fork._received:
        fork.has_ended(0.1)
    input()
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def warm() -> Iterator[WarmProcess]:
    """Yield a warm process without libraries."""
    with WarmProcess([], dict(os.environ)) as warm:
        yield warm


def hold(warm: WarmProcess) -> ForkedProcess:
    """Return a running fork."""
    return warm.client.start(HOLD, environment=dict(os.environ), process_name="faal-job")


def find_job(ancestor: int) -> int:
    """Return the number of the only job's process below that one, once it runs."""
    wait_until(lambda: any(command_name(pid) == "faal-job" for pid in descendants(ancestor)), within_seconds=20)
    (found,) = (pid for pid in descendants(ancestor) if command_name(pid) == "faal-job")
    return found


def test_fork_ends_with_its_client() -> None:
    """When the process that requested a fork is killed, guard, fork and warm process end."""
    with subprocess.Popen([sys.executable, "-c", REQUEST_AND_BE_KILLED], stdin=subprocess.PIPE) as client:
        find_job(client.pid)
        below = descendants(client.pid)
        assert len(below) == 3
        client.communicate(b"\n")
    assert client.returncode == -signal.SIGKILL
    wait_until(lambda: all(map(is_gone, below)), within_seconds=10)


def test_fork_ends_with_its_guard(warm: WarmProcess) -> None:
    """When the guard is killed, so is its fork, and the fork counts as killed."""
    process = hold(warm)
    job = find_job(warm._process.pid)
    (guard,) = (pid for pid in descendants(warm._process.pid) if pid != job)
    os.kill(guard, signal.SIGKILL)
    assert process.has_ended(within_seconds=20)
    assert process.close() == -signal.SIGKILL
    wait_until(lambda: is_gone(job), within_seconds=10)


def test_fork_outlives_a_request_to_stop_that_reaches_every_process(warm: WarmProcess) -> None:
    """A service manager asks all processes to stop at once: a guard waits for its job, which may store its checkpoint."""
    process = hold(warm)
    job = find_job(warm._process.pid)
    (guard,) = (pid for pid in descendants(warm._process.pid) if pid != job)
    os.kill(guard, signal.SIGTERM)
    assert not process.has_ended(within_seconds=0.5)
    os.kill(job, signal.SIGTERM)
    assert process.has_ended(within_seconds=20)
    assert process.close() == -signal.SIGTERM


def test_warm_process_gets_no_secret() -> None:
    """Of the worker's environment, only names that libraries read reach the warm process."""
    environment = {
        "LANG": "C",
        "LC_ALL": "C",
        "LANGUAGE_KEY": "s",
        "LANGFUSE_SECRET_KEY": "s",
        "PATH_TOKEN": "s",
        "FAAL_X": "s",
    }
    assert WarmProcess([], environment)._environment == {"LANG": "C", "LC_ALL": "C", "OPENBLAS_NUM_THREADS": "1"}


def test_dead_warm_process_is_replaced_and_its_forks_run(warm: WarmProcess) -> None:
    """After the warm process was killed, its forks continue, and a new one serves the next request."""
    process = hold(warm)
    find_job(warm._process.pid)
    warm._process.kill()
    warm._process.wait()
    another = hold(warm)
    assert not another.has_ended(within_seconds=0.5)
    assert not process.has_ended()
    assert (another.close(), process.close()) == (-signal.SIGKILL, -signal.SIGKILL)


def test_fork_without_a_warm_process_never_starts() -> None:
    """A warm process that fails while it imports leaves its requests without a process, and without a status."""
    with WarmProcess(["a_library_that_is_missing"], dict(os.environ)) as warm:
        process = hold(warm)
        assert process.has_ended(within_seconds=20)
        assert process.close() is None


def test_kill_ends_a_request_that_waits() -> None:
    """A request to a warm process that does not answer ends at once when it is killed."""
    with WarmProcess(["tests.unit.worker.confined_beside_large_libraries"], dict(os.environ)) as warm:
        process = hold(warm)
        start = time.monotonic()
        process.kill()
        assert process.has_ended()
        assert process.close() == -signal.SIGKILL
        assert time.monotonic() - start < 1


def test_warm_process_has_one_thread_and_no_device() -> None:
    """The warm process has one thread. Its forks find CUDA untouched, and have as many threads as their environment says."""
    with WarmProcess(WARM_MODULES, os.environ | {"OMP_NUM_THREADS": "2"}) as warm:
        process = warm.client.start(
            "tests.unit.worker.forked_functions:require_fresh_torch",
            3,
            environment=os.environ | {"OMP_NUM_THREADS": "3"},
            process_name="faal-job",
        )
        assert process.has_ended(within_seconds=100)
        threads = Path(f"/proc/{warm._process.pid}/task")
        assert len(list(threads.iterdir())) == 1
        assert process.close() == 0
