"""A process that leads a group of its own, and can be stopped with everything it started."""

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from typing import BinaryIO

_PR_SET_NAME = 15  # linux/prctl.h
_POLL_SECONDS = 0.05


class ProcessGroup:
    """A started process and its descendants.

    The leader is reaped only by `close`, after the group was killed. Until then no other process can get its number, so a signal
    never reaches a stranger.

    Args:
        output: file for what the leader writes; absent, it writes where this process does.
    """

    def __init__(
        self, arguments: Sequence[str], environment: Mapping[str, str], output: BinaryIO | None = None
    ) -> None:
        self._leader = subprocess.Popen(  # noqa: S603 - our own modules
            arguments,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )

    @property
    def pid(self) -> int:
        """Return the leader's process number, which is the group's too."""
        return self._leader.pid

    def has_ended(self, within_seconds: float = 0.0) -> bool:
        """Wait at most that many seconds until the leader ends, and return whether it has ended."""
        deadline = time.monotonic() + within_seconds
        while True:
            if os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None:
                return True
            if (left := deadline - time.monotonic()) <= 0:
                return False
            time.sleep(min(_POLL_SECONDS, left))

    def terminate(self) -> None:
        """Ask the leader to end."""
        os.kill(self.pid, signal.SIGTERM)

    def kill(self) -> None:
        """Kill every process in the group."""
        os.killpg(self.pid, signal.SIGKILL)

    def close(self) -> int:
        """Kill every process in the group, and return the leader's exit status (−n: killed by signal n)."""
        self.kill()
        return self._leader.wait()


def name_process(name: str) -> None:
    """Name this process, as `top` and `ps -o comm` show it: at most 15 ASCII characters. Only Linux has such names."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_NAME, name.encode(), 0, 0, 0)
