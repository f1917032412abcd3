"""`python -m tests.service.forked_services`: starts web services for tests, each as a fork that has its imports already.

A web service spends more than a second on its imports, and tests start about a hundred. A fork runs the same module from its
first line, with an environment and a log of its own. Each line of the input is a request, each line of the output its answer.
"""

import itertools
import json
import math
import os
import runpy
import signal
import subprocess
import sys
import threading
import time
from functools import cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
LOOK_SECONDS = 0.01
_lock, _numbers = threading.Lock(), itertools.count()


class ForkedService:
    """A service that a fork runs, with the methods of `subprocess.Popen` that tests use."""

    def __init__(self, module: str, environment: dict[str, str], log: Path) -> None:
        self.pid: int = _ask({"module": module, "environment": environment, "log": str(log)})
        self._status: int | None = None

    def poll(self) -> int | None:
        """Return the exit status, None while it runs."""
        if self._status is None:
            self._status = _ask({"pid": self.pid})
        return self._status

    def wait(self, timeout: float | None = None) -> int:
        """Return the exit status once it has ended. Raises: subprocess.TimeoutExpired."""
        deadline = math.inf if timeout is None else time.monotonic() + timeout
        while (status := self.poll()) is None:
            if time.monotonic() >= deadline:
                raise subprocess.TimeoutExpired(f"fork {self.pid}", timeout or 0.0)
            time.sleep(LOOK_SECONDS)
        return status

    def send_signal(self, number: int) -> None:
        """Send it that signal, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """Kill it."""
        self.send_signal(signal.SIGKILL)


@cache
def _forking_process() -> subprocess.Popen[str]:
    """Start the process that forks; it ends with this one, whose end closes its input."""
    command = [sys.executable, "-m", "tests.service.forked_services"]
    return subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def _ask(request: dict[str, Any]) -> Any:
    with _lock:
        process = _forking_process()
        assert process.stdin is not None
        assert process.stdout is not None
        number = next(_numbers)
        process.stdin.write(json.dumps([number, request]) + "\n")
        process.stdin.flush()
        while True:  # a test that was interrupted may have left an answer
            of, answer = json.loads(process.stdout.readline())
            if of == number:
                return answer


def _fork(module: str, environment: dict[str, str], log: str) -> int:
    """Return the number of a fork of this process. In the fork, run the module, and exit as the interpreter does."""
    if pid := os.fork():
        return pid
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    for number, file in enumerate((os.open(os.devnull, os.O_RDONLY), output, output)):
        os.dup2(file, number)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = [module]
    runpy.run_module(module, run_name="__main__", alter_sys=True)
    sys.exit()


def _read_status(pid: int, statuses: dict[int, int]) -> int | None:
    """Return the exit status of the fork, None while it runs. `statuses` keeps those that were read, which can be read once."""
    if pid not in statuses:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            statuses[pid] = os.waitstatus_to_exitcode(status)
    return statuses.get(pid)


def main() -> None:
    """Answer requests until the input ends."""
    import api.__main__  # callers need not import it

    del sys.modules[api.__main__.__name__]  # each fork runs it
    statuses: dict[int, int] = {}
    for line in sys.stdin:
        number, request = json.loads(line)
        answer = _read_status(request["pid"], statuses) if "pid" in request else _fork(**request)
        sys.stdout.write(json.dumps([number, answer]) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
