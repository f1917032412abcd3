"""Whether memory ran out, as an exception tells it and as the system does."""

from pathlib import Path

# How torch words it on a GPU (as torch.OutOfMemoryError, a RuntimeError) and on a CPU (as a plain RuntimeError).
_TORCH_SAYS = ("out of memory", "can't allocate memory")


def ran_out(error: Exception) -> bool:
    """Whether that exception means that memory ran out."""
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and any(words in str(error) for words in _TORCH_SAYS)
    )


def kills() -> int:
    """How many processes of this machine were killed for memory since it started; 0 where the kernel does not tell."""
    try:
        counters = Path("/proc/vmstat").read_text()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in counters.splitlines() if line.startswith("oom_kill ")), 0)
