"""The warm process: a process that has imported the libraries of jobs, and forks for each job and each check of an upload.

Its environment has no secrets. A job's environment reaches the job's fork alone. `worker.fork_server` is its code; this
module, for processes that use it, imports no torch.
"""

import json
import logging
import os
import select
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

logger = logging.getLogger(__name__)

TERMINATE, KILL, CLOSE = b"T", b"K", b"C"
"""Requests to the guard of a fork; a closed connection means CLOSE, too."""
STARTED, ENDED = b"S", b"E"
"""Messages of the guard. After CLOSE, the leader's exit status follows in the format STATUS."""
LENGTH, STATUS = "=I", "=i"

# Variables that libraries read while they load: names, and beginnings of names that no secret has.
_NAMES = ("LANG", "LANGUAGE", "PATH", "TZ")
_PREFIXES = (
    "ATEN_",
    "CUBLAS_",
    "CUDA_",
    "CUDNN_",
    "DNNL_",
    "GOMP_",
    "KMP_",
    "LC_",
    "LD_",
    "MALLOC_",
    "MKL_",
    "NCCL_",
    "OMP_",
    "ONEDNN_",
    "PYTHON",
    "PYTORCH_",
    "TORCH_",
)


def is_supported() -> bool:
    """Return whether this system can run a warm process: Linux 5.3 or newer."""
    if sys.platform != "linux":
        return False
    try:
        os.close(os.pidfd_open(os.getpid()))
    except OSError:
        return False
    return True


class ForkedProcess:
    """A process that was requested from the warm process, and its descendants; used as a `ProcessGroup`.

    It leads a group of its own, and its group is killed when this object's process ends.
    """

    def __init__(self, connection: socket.socket, request: bytes) -> None:
        self._connection, self._received, self._lost = connection, b"", False
        self._poll = select.poll()
        self._poll.register(connection, select.POLLIN)
        self._send(struct.pack(LENGTH, len(request)) + request)

    def has_ended(self, within_seconds: float = 0.0) -> bool:
        """Wait at most that many seconds until the process ends, and return whether it has ended or was never started."""
        deadline = time.monotonic() + within_seconds
        while not self._lost and ENDED not in self._received:
            if not self._poll.poll(1000 * max(deadline - time.monotonic(), 0)):
                return False
            self._receive()
        return True

    def terminate(self) -> None:
        """Ask the process to end."""
        self._send(TERMINATE)

    def kill(self) -> None:
        """Kill every process in the group. A process that was not started yet is killed when it starts."""
        if STARTED in self._received:
            self._send(KILL)
        elif not self._lost:
            self._connection.shutdown(socket.SHUT_RDWR)
            self._received, self._lost = STARTED, True

    def close(self) -> int | None:
        """Kill every process in the group, and return the exit status (−n: killed by signal n); None if it never started."""
        self._send(CLOSE)
        while not self._lost:
            self._receive()
        self._connection.close()
        started, _, status = self._received.partition(ENDED)
        if status:
            return struct.unpack(STATUS, status)[0]
        return -signal.SIGKILL if started else None

    def _send(self, message: bytes) -> None:
        try:
            self._connection.sendall(message)
        except OSError:  # the guard has ended, and then the process has, too
            self._lost = True

    def _receive(self) -> None:
        try:
            message = self._connection.recv(64)
        except OSError:
            message = b""
        self._received += message
        self._lost = not message


class ForkClient:
    """Requests processes from a warm process.

    Args:
        control: a socket whose other end the warm process has. A message on it carries one end of a connection for one process.
    """

    def __init__(self, control: socket.socket) -> None:
        self._control = control

    @classmethod
    def from_descriptor(cls, descriptor: int) -> Self:
        """Return the client of the warm process whose socket has that descriptor."""
        return cls(socket.socket(fileno=descriptor))

    def start(
        self,
        function: str,
        *arguments: str | int,
        environment: Mapping[str, str],
        process_name: str,
        output: Path | None = None,
        may_fork: bool = False,
    ) -> ForkedProcess:
        """Start a process that calls `function` ("module:name") with the arguments, its parent's number and, if it may, a client.

        Args:
            environment: replaces that of the warm process.
            output: file for what it writes; absent, it writes where the warm process does.
            may_fork: give the function a client of the warm process, `forks`.
        """
        request = {
            "function": function,
            "arguments": arguments,
            "environment": dict(environment),
            "process_name": process_name,
            "output": None if output is None else str(output),
        }
        own_end, guard_end = socket.socketpair()
        with guard_end:
            descriptors = [guard_end.fileno(), *([self._control.fileno()] if may_fork else [])]
            try:
                socket.send_fds(self._control, [STARTED], descriptors)
            except OSError as error:
                logger.warning("the warm process does not answer: %s", error)
        return ForkedProcess(own_end, json.dumps(request).encode())

    def close(self) -> None:
        """Close this client. The warm process ends with its last client."""
        self._control.close()


class WarmProcess:
    """Owns a warm process during a `with` block, and replaces it after it has died.

    Args:
        modules: what it imports.
        environment: of the worker. The warm process gets the variables that libraries read while they load.
    """

    def __init__(self, modules: Sequence[str], environment: Mapping[str, str]) -> None:
        self._modules = modules
        # numpy and SciPy multiply small matrices only, and a process that forks has one thread.
        self._environment = {
            name: value for name, value in environment.items() if name in _NAMES or name.startswith(_PREFIXES)
        }
        self._environment["OPENBLAS_NUM_THREADS"] = "1"

    def __enter__(self) -> Self:
        self._launch()
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()
        self._process.kill()  # processes that it has started do not depend on it
        self._process.wait()

    @property
    def client(self) -> ForkClient:
        """Return the client of a warm process that has not ended."""
        if (status := self._process.poll()) is not None:
            logger.warning("the warm process ended with status %d and is replaced", status)
            self._client.close()
            self._launch()
        return self._client

    def _launch(self) -> None:
        own_end, control = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        command = [sys.executable, "-m", "worker.fork_server", str(control.fileno()), *self._modules]
        with control:
            self._process = subprocess.Popen(  # noqa: S603 - our own module
                command,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                pass_fds=(control.fileno(),),
                start_new_session=True,
            )
        self._client = ForkClient(own_end)
