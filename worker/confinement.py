"""A process with little memory, time and disk and no network, for reading files of strangers.

It is the second line of defence. The first is that nothing in `faal_core` runs code from a file; this one keeps a bomb,
an endless loop or a crashing parser from taking the worker with it. The process runs as the worker's user: what a
takeover of it could reach is for the deployment to limit.

Run as `python -m worker.confinement FOLDER PARENT`: reads `request.json` in the folder and writes `answer.json`.
"""

import ctypes
import json
import logging
import os
import resource
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

from faal_core.errors import FaalError, OutOfMemory
from faal_core.progress import Progress
from worker import memory
from worker.process_group import end_with

logger = logging.getLogger(__name__)

_PR_SET_NO_NEW_PRIVS = 38  # linux/prctl.h
_CLONE_NEWUSER, _CLONE_NEWNET = 0x1000_0000, 0x4000_0000  # linux/sched.h
_PASSED_ON = ("PATH", "PYTHONPATH", "LD_LIBRARY_PATH", "LANG")  # no secrets: database and broker are not among them
_LEAST_SHARE = 4  # of a core that a process must get: the clock may run so many times longer than the processor's time
_ANSWER_BYTES = 16 * 2**20  # 11,000 names of classes and groups, of 100 characters, each up to 12 bytes in ASCII JSON
_MESSAGE_CHARACTERS = 2000


@dataclass(frozen=True, slots=True)
class Confinement:
    """Where and how confined functions run.

    Args:
        folder: theirs, empty, readable by nobody else; results other than the answer are left there.
        seconds: of processor time.
        memory: address space, in bytes, libraries included.
        file_bytes: size of the largest file they may write.
        progress: asked now and then, so that a cancelled check ends.
    """

    folder: Path
    seconds: int
    memory: int
    file_bytes: int
    progress: Progress

    def call(self, function: str, source: Path, *arguments: object, refusal: type[FaalError]) -> Any:  # noqa: ANN401 - JSON
        """What `function` ("module:name") answers when called with folder, source and arguments, as JSON.

        Raises: FaalError as the function raised it; OutOfMemory; `refusal` where time ran out or it crashed; Cancelled.
        """
        limits = {"seconds": self.seconds, "memory": self.memory, "file_bytes": self.file_bytes}
        request = {"function": function, "source": str(source), "arguments": arguments, "limits": limits}
        (self.folder / "request.json").write_text(json.dumps(request))
        command = [sys.executable, "-m", "worker.confinement", str(self.folder), str(os.getpid())]
        process = subprocess.Popen(command, env=self._environment(), stdin=subprocess.DEVNULL)  # noqa: S603 - our own module
        deadline = time.monotonic() + _LEAST_SHARE * self.seconds
        try:
            while process.poll() is None and time.monotonic() < deadline:
                self.progress.advance(0)
                time.sleep(0.05)
        finally:
            process.kill()
            status = process.wait()
        return self._answer(status, refusal)

    def _environment(self) -> dict[str, str]:
        own = {"HOME": str(self.folder), "TMPDIR": str(self.folder), "OMP_NUM_THREADS": "1"}
        return own | {name: os.environ[name] for name in _PASSED_ON if name in os.environ}

    def _answer(self, status: int, refusal: type[FaalError]) -> Any:  # noqa: ANN401 - JSON
        answer = self.folder / "answer.json"
        if status == 0 and answer.stat().st_size <= _ANSWER_BYTES:
            content = json.loads(answer.read_text())
            if "error" not in content:
                return content["value"]
            families = {family.code: family for family in FaalError.__subclasses__()}
            raise families.get(content["error"]["code"], refusal)(content["error"]["message"])
        if status in (-signal.SIGXCPU, -signal.SIGKILL):
            raise refusal(
                f"Reading the file took more than {self.seconds} s (FAAL_VALIDATION_SECONDS), so it is refused."
            )
        raise refusal(f"Reading the file crashed the process that read it (exit status {status}), so it is refused.")


def main(folder: Path, parent: int) -> None:
    """Nothing: the answer, or a FaalError's code and message, is in the folder."""
    request = json.loads((folder / "request.json").read_text())
    _leave_network()
    end_with(parent)
    limits = request["limits"]
    for what, most in [
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_CPU, limits["seconds"]),
        (resource.RLIMIT_AS, limits["memory"]),
        (resource.RLIMIT_FSIZE, limits["file_bytes"]),
    ]:
        resource.setrlimit(what, (most, most))
    try:
        value = resolve_name(request["function"])(folder, Path(request["source"]), *request["arguments"])
        answer = {"value": value}
    except FaalError as error:
        answer = {"error": {"code": error.code, "message": _tellable(error.message)}}
    except Exception as error:
        if not memory.ran_out(error):
            raise
        most = f"{limits['memory'] / 2**30:.3g} GiB of memory (FAAL_VALIDATION_MEMORY)"
        answer = {"error": {"code": OutOfMemory.code, "message": f"Reading the file takes more than {most}."}}
    (folder / "answer.json").write_text(json.dumps(answer))


def _tellable(message: str) -> str:
    """The message at a bearable length, in characters that UTF-8 has: it may quote names of keys and members as they came."""
    cut = message if len(message) <= _MESSAGE_CHARACTERS else f"{message[:_MESSAGE_CHARACTERS]}…"
    return cut.encode(errors="backslashreplace").decode()


def _leave_network() -> None:
    """From here on this process reaches no network and gains no rights, where the system permits that."""
    if sys.platform != "linux":
        return
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    if libc.unshare(_CLONE_NEWNET) != 0 and libc.unshare(_CLONE_NEWUSER | _CLONE_NEWNET) != 0:
        logger.warning("the check of an upload keeps its network: %s", os.strerror(ctypes.get_errno()))


if __name__ == "__main__":
    logging.basicConfig()  # settings, the form of logs among them, are not for this process
    main(Path(sys.argv[1]), int(sys.argv[2]))
