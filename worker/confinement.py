"""A process with little memory, time and disk and no network, for reading files of strangers.

It is the second line of defence. The first is that nothing in `faal_core` runs code from a file. This one stops a
decompression bomb, an endless loop or a crashing parser from taking the worker with it. The process runs as the worker's
user: the deployment limits what an attacker who takes the process over can reach.

Run as `python -m worker.confinement FOLDER PARENT`: reads `request.json` in the folder and writes `answer.json`.
"""

import ctypes
import json
import logging
import math
import os
import resource
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

from faal_core.errors import FaalError, OutOfMemory
from faal_core.errors.memory_exhaustion import is_out_of_memory
from faal_core.lifetime import end_with_parent
from faal_core.progress import Progress
from jobs.content import disk_is_full
from jobs.errors import StorageFull
from worker.memory import count_kills, mapped_bytes
from worker.process_group import ProcessGroup
from worker.warm_process import ForkClient, ForkedProcess

logger = logging.getLogger(__name__)

_PR_SET_NO_NEW_PRIVS = 38  # linux/prctl.h
_CLONE_NEWUSER, _CLONE_NEWNET = 0x1000_0000, 0x4000_0000  # linux/sched.h
# No secrets: database and broker are not among them.
_INHERITED_VARIABLES = ("PATH", "PYTHONPATH", "LD_LIBRARY_PATH", "LANG")
_CLOCK_FACTOR = 4  # the clock may run this many times longer than the processor's time, on a busy machine
_ANSWER_BYTES = 16 * 2**20  # 11,000 names of classes and groups, of 100 characters, each up to 12 bytes in ASCII JSON
_MESSAGE_CHARACTERS = 2000
_STDERR_BYTES = 4096  # of a traceback, the end says why
_IMPORT_SECONDS = 300  # from a slow network drive, CUDA's libraries take minutes
_LOOK_SECONDS = 0.05  # how soon a process that ended and a cancelled check are noticed
_READING_MARK = "reading"  # a file in the folder: what follows is about the upload


class ReadingInterrupted(Exception):
    """The process ended for a reason that is not the file's; another attempt, perhaps of another worker, may succeed."""


@dataclass(frozen=True, slots=True)
class Confinement:
    """The folder and the limits of confined functions.

    Args:
        folder: empty, readable by this user only; the function leaves its results there.
        seconds: of processor time, once the function's libraries are imported.
        memory: address space, in bytes, beyond that of these libraries.
        file_bytes: size of the largest file they may write.
        progress: asked now and then, so that a cancelled check ends.
        forks: client of the warm process, which has imported the function's libraries; without it, a new process imports them.
    """

    folder: Path
    seconds: int
    memory: int
    file_bytes: int
    progress: Progress
    forks: ForkClient | None = None

    def call(self, function: str, source: Path, *arguments: object, refusal: type[FaalError]) -> Any:  # noqa: ANN401 - JSON
        """Call `function` ("module:name") with folder, source and arguments in a confined process, and return its JSON answer.

        Raises: FaalError as the function raised it; OutOfMemory; `refusal` where time ran out or the process crashed;
            ReadingInterrupted and StorageFull where the file is not to blame; Cancelled.
        """
        limits = {"seconds": self.seconds, "memory": self.memory, "file_bytes": self.file_bytes}
        request = {"function": function, "source": str(source), "arguments": arguments, "limits": limits}
        (self.folder / "request.json").write_text(json.dumps(request))
        (self.folder / _READING_MARK).unlink(missing_ok=True)
        kills_before = count_kills()
        log = self.folder / "stderr"
        log.touch()
        try:
            in_time, status = self._run(log)
        finally:
            _log_end_of(log)
        if status == os.EX_CANTCREAT:
            raise StorageFull("The worker's disk is full, so the upload could not be converted. Free some space there.")
        if not (self.folder / _READING_MARK).exists():
            raise ReadingInterrupted(f"the process that reads uploads did not start (exit status {status})")
        if not in_time or status == -signal.SIGXCPU:
            raise refusal(
                f"Reading the file took more than {self.seconds} s (FAAL_VALIDATION_SECONDS), so the file was refused. Upload a "
                "smaller one, or ask the administrator to raise the limit."
            )
        if status == -signal.SIGKILL:
            if count_kills() > kills_before:
                raise OutOfMemory(
                    "The worker's machine ran out of memory while it read the file. Upload a smaller file, or run a worker "
                    "with more memory."
                )
            raise ReadingInterrupted("the process that read the upload was killed")
        return self._answer(status, refusal)

    def _run(self, log: Path) -> tuple[bool, int]:
        """Run the process, and return whether it ended in time, and its exit status."""
        if self.forks is not None:
            fork = self.forks.start(
                "worker.confinement:main",
                str(self.folder),
                environment=self._environment(),
                process_name="faal-reader",
                output=log,
            )
            in_time, status = self._wait_for(fork)
            if status is not None:
                return in_time, status
        command = [sys.executable, "-m", "worker.confinement", str(self.folder), str(os.getpid())]
        with log.open("wb") as output:
            in_time, status = self._wait_for(ProcessGroup(command, self._environment(), output))
        assert status is not None, "only a fork may not start"  # noqa: S101
        return in_time, status

    def _wait_for(self, process: ProcessGroup | ForkedProcess) -> tuple[bool, int | None]:
        """Wait until the process ends or takes too long to import or to read. Return whether it ended, and its exit status."""
        try:
            in_time = self._ends_in_time(process)
            if not in_time:
                process.kill()
        finally:
            status = process.close()
        return in_time, status

    def _ends_in_time(self, process: ProcessGroup | ForkedProcess) -> bool:
        reading, deadline = False, time.monotonic() + _IMPORT_SECONDS
        while not process.has_ended(within_seconds=_LOOK_SECONDS):
            if not reading and (reading := (self.folder / _READING_MARK).exists()):
                deadline = time.monotonic() + _CLOCK_FACTOR * self.seconds
            if time.monotonic() >= deadline:
                return False
            self.progress.advance(0)
        return True

    def _environment(self) -> dict[str, str]:
        own = {"HOME": str(self.folder), "TMPDIR": str(self.folder), "OMP_NUM_THREADS": "1"}
        return own | {name: os.environ[name] for name in _INHERITED_VARIABLES if name in os.environ}

    def _answer(self, status: int, refusal: type[FaalError]) -> Any:  # noqa: ANN401 - JSON
        answer = self.folder / "answer.json"
        if status == 0 and answer.stat().st_size <= _ANSWER_BYTES:
            content = json.loads(answer.read_text())
            if "error" not in content:
                return content["value"]
            families = {family.code: family for family in FaalError.__subclasses__()}
            raise families.get(content["error"]["code"], refusal)(content["error"]["message"])
        raise refusal(
            f"Reading the file crashed the process that read it (exit status {status}), so the file was refused. Check that it "
            "is intact."
        )


def _log_end_of(log: Path) -> None:
    """Log the last lines that the process wrote, each as a log line of its own, because they may quote the upload."""
    with log.open("rb") as file:
        file.seek(-min(log.stat().st_size, _STDERR_BYTES), os.SEEK_END)
        for line in file.read().decode(errors="replace").splitlines():
            logger.warning("the process that reads the upload wrote: %s", line)


def main(folder: str, parent: int) -> None:
    """Call the function, and write its answer, or a FaalError's code and message, into the folder.

    Raises: SystemExit with EX_CANTCREAT where the disk is full.
    """
    logging.basicConfig(format="%(message)s")  # the worker logs what this process writes
    try:
        _call(Path(folder), parent)
    except Exception as error:
        if not disk_is_full(error):
            raise
        sys.exit(os.EX_CANTCREAT)
    os._exit(0)  # the answer is written, and clearing up after the libraries takes a quarter of a second


def _call(folder: Path, parent: int) -> None:
    request = json.loads((folder / "request.json").read_text())
    _leave_network()
    end_with_parent(parent)
    function, limits = resolve_name(request["function"]), request["limits"]
    _limit(**limits)
    (folder / _READING_MARK).touch()
    try:
        value = function(folder, Path(request["source"]), *request["arguments"])
        answer = {"value": value}
    except Exception as error:
        if is_out_of_memory(error):
            limit = f"{limits['memory'] / 2**30:.3g} GiB of memory (FAAL_VALIDATION_MEMORY)"
            message = (
                f"Reading the file takes more than {limit}. Upload a smaller one, or ask the administrator to raise it."
            )
            answer = {"error": {"code": OutOfMemory.code, "message": message}}
        elif isinstance(error, FaalError):
            answer = {"error": {"code": error.code, "message": _shorten(error.message)}}
        else:
            raise
    (folder / "answer.json").write_text(json.dumps(answer))


def _limit(*, seconds: int, memory: int, file_bytes: int) -> None:
    """Limit what this process may take from here on, beyond what it has taken for its libraries."""
    seconds, bytes_mapped = math.ceil(time.process_time()) + seconds, mapped_bytes() + memory
    for limit, soft, hard in [
        (resource.RLIMIT_CORE, 0, 0),
        (resource.RLIMIT_CPU, seconds, seconds + 1),  # equal limits end it by SIGKILL, as others do
        (resource.RLIMIT_AS, bytes_mapped, bytes_mapped),
        (resource.RLIMIT_FSIZE, file_bytes, file_bytes),
    ]:
        resource.setrlimit(limit, (soft, hard))


def _shorten(message: str) -> str:
    """Return the message at a limited length, in characters that UTF-8 has: it may quote names from the upload."""
    short = message if len(message) <= _MESSAGE_CHARACTERS else f"{message[:_MESSAGE_CHARACTERS]}…"
    return short.encode(errors="backslashreplace").decode()


def _leave_network() -> None:
    """Cut this process off from the network and from new rights, where the system permits that."""
    if sys.platform != "linux":
        return
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    if libc.unshare(_CLONE_NEWNET) != 0 and libc.unshare(_CLONE_NEWUSER | _CLONE_NEWNET) != 0:
        logger.warning("the check of an upload runs with network access: %s", os.strerror(ctypes.get_errno()))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
