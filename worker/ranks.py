"""The processes beside a job's own that train with it, one a GPU."""

import logging
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch

from faal_core.training.ranks import Ranks, joined
from worker.assignment import Assignment

logger = logging.getLogger(__name__)

_NOTICED_SECONDS = 1.0  # by then the end of another process has ended this one


@contextmanager
def fellows(assignment: Assignment) -> Iterator[Ranks]:
    """Within, as many processes as the settings say train together, of which this is the first; its threads are shared out.

    The others end with this one. One that fails ends it: the next attempt goes on from the checkpoint.
    """
    count = assignment.settings.processes
    if count == 1:
        yield Ranks(device=assignment.device)
        return
    over = threading.Event()
    threads = max(torch.get_num_threads() // count, 1)
    meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(_free_port()), "WORLD_SIZE": str(count)}
    meeting |= {name: str(threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
    started = [_fellow(assignment, {**meeting, **_place(number)}) for number in range(1, count)]
    for process in started:
        threading.Thread(target=_end_with, args=(process, over), daemon=True).start()
    os.environ.update({**meeting, **_place(0)})  # where torch looks for it
    torch.set_num_threads(threads)
    with joined(os.environ, assignment.device) as ranks:
        try:
            yield ranks
        except RuntimeError:  # also what torch makes of a partner that is gone
            time.sleep(_NOTICED_SECONDS)
            raise
        finally:
            over.set()


def _place(number: int) -> dict[str, str]:
    return {"RANK": str(number), "LOCAL_RANK": str(number)}


def _fellow(assignment: Assignment, environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
    job = assignment.job
    command = [sys.executable, "-m", "worker.rank_process", job.id, str(job.attempt), str(os.getpid())]
    return subprocess.Popen(command, env={**os.environ, **environment}, stdin=subprocess.DEVNULL)  # noqa: S603 - our own module


def _end_with(process: subprocess.Popen[bytes], over: threading.Event) -> None:
    """Nothing, unless that process fails before all is over: then this one ends too, which may wait for the other for ever."""
    if (status := process.wait()) and not over.is_set():
        logger.error("a process that trained with this one ended with status %d", status)
        os._exit(1)


def _free_port() -> int:
    with socket.socket() as opened:
        opened.bind(("127.0.0.1", 0))
        port: int = opened.getsockname()[1]
        return port
