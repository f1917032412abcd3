"""The processes that train together with a job's own, one per GPU."""

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

from faal_core.training.ranks import Ranks, join_ranks
from worker.assignment import Assignment

logger = logging.getLogger(__name__)

_NOTICED_SECONDS = 1.0  # by then the end of another process has ended this one


@contextmanager
def start_rank_processes(assignment: Assignment) -> Iterator[Ranks]:
    """Start the other ranks of the training, and yield this process's rank, which is the first; the threads are shared out.

    The settings say how many ranks there are. The others end with this process. If one fails, this process ends too, and the
    next attempt resumes from the checkpoint.
    """
    count = assignment.settings.processes or 1
    if count == 1:
        yield Ranks(device=assignment.device)
        return
    finished = threading.Event()
    threads = max(torch.get_num_threads() // count, 1)
    variables = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(_free_port()), "WORLD_SIZE": str(count)}
    variables |= {name: str(threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
    processes = [_start_rank_process(assignment, {**variables, **_rank_variables(rank)}) for rank in range(1, count)]
    for process in processes:
        threading.Thread(target=_exit_on_failure, args=(process, finished), daemon=True).start()
    os.environ.update({**variables, **_rank_variables(0)})  # where torch looks for them
    torch.set_num_threads(threads)
    with join_ranks(os.environ, assignment.device) as ranks:
        try:
            yield ranks
        except RuntimeError:  # torch raises it too when another rank has ended
            time.sleep(_NOTICED_SECONDS)
            raise
        finally:
            finished.set()


def _rank_variables(rank: int) -> dict[str, str]:
    return {"RANK": str(rank), "LOCAL_RANK": str(rank)}


def _start_rank_process(assignment: Assignment, environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
    job = assignment.job
    command = [sys.executable, "-m", "worker.rank_process", job.id, str(job.attempt), str(os.getpid())]
    return subprocess.Popen(command, env={**os.environ, **environment}, stdin=subprocess.DEVNULL)  # noqa: S603 - our own module


def _exit_on_failure(process: subprocess.Popen[bytes], finished: threading.Event) -> None:
    """End this process if that one fails before `finished` is set: else this process could wait for it forever."""
    if (status := process.wait()) and not finished.is_set():
        logger.error(
            "a rank of the training ended with status %d; the next attempt resumes from the checkpoint", status
        )
        os._exit(1)


def _free_port() -> int:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        port: int = server.getsockname()[1]
        return port
