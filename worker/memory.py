"""The system's reports about memory."""

import resource
from pathlib import Path

_CGROUPS = Path("/sys/fs/cgroup")


def count_kills() -> int:
    """Return how many processes were killed for lack of memory: of this container, else of the machine since it started.

    0 where the kernel does not report it.
    """
    for counters in (_own_events(), Path("/proc/vmstat")):
        try:
            lines = counters.read_text().splitlines()
        except OSError:
            continue
        for line in lines:
            if line.startswith("oom_kill "):
                return int(line.split()[1])
    return 0


def mapped_bytes() -> int:
    """Return the bytes of address space that this process has mapped; 0 where the kernel does not report it."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    except OSError:
        return 0


def _own_events() -> Path:
    """Return the path of the counters of this process's control group (version 2), which may be missing."""
    try:
        groups = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        groups = []
    path = next((group.removeprefix("0::") for group in groups if group.startswith("0::")), "/")
    return _CGROUPS / path.lstrip("/") / "memory.events"
