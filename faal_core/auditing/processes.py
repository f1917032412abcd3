"""Compute the batches of an evaluation in processes of this machine: of one thread each on a CPU, or one for each GPU.

On a CPU the processes are forked: they share network and images, even those that exist in a notebook alone. A process that has
used a GPU cannot be forked. There each GPU gets a new process, which receives a copy of network and images.
"""

import io
import os
import pickle
import signal
import subprocess
import sys
import time
import warnings
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from multiprocessing import Pipe, current_process, get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess

import torch

from faal_core.auditing.batch_server import serve_fork
from faal_core.auditing.batches import BatchExecutor, BatchWork, FailedBatch, OneProcess, ShareWork
from faal_core.auditing.evaluator import ComputedBatch
from faal_core.auditing.parallelism import can_fork, choose_processes
from faal_core.errors import ClassifierUnsuitable, OutOfMemory
from faal_core.results.ledger import CLEAN
from faal_core.results.schedule import Batch

_FORK_SECONDS = 5.0  # for the first answer of a fork, beside the next
_FORK_FACTOR = 20.0  # times the time that this process takes for the same image
_LOSSES = 3  # processes that one batch may end before the audit is given up
_START = "from faal_core.auditing.batch_server import serve_copy; serve_copy({socket}, {parent}, {device!r})"


@dataclass(slots=True)
class _Child:
    """A process that computes one batch after the other.

    Args:
        batch: the batch that it computes; None while it is idle.
    """

    process: BaseProcess | subprocess.Popen[bytes]
    connection: Connection
    batch: Batch | None = None

    def end(self) -> int:
        """Kill the process, and return its exit status: −n where signal n ended it."""
        self.process.kill()
        self.connection.close()
        if isinstance(self.process, BaseProcess):
            self.process.join()
            return self.process.exitcode or 0
        return self.process.wait()


class ProcessPool:
    """Computes batches in processes. One that is killed loses its batch, which a new process computes.

    Args:
        starts: start one process each, which closes the connections that are given.
        content: network and images, which each process receives first; None where the processes have them.
    """

    def __init__(
        self, starts: Sequence[Callable[[Sequence[Connection]], _Child]], content: memoryview | None = None
    ) -> None:
        self._starts, self._content = starts, content
        self._children: list[_Child | None] = [None] * len(starts)
        self._losses = Counter[Batch]()

    @property
    def places(self) -> int:
        """Return the number of processes."""
        return len(self._starts)

    def free_places(self) -> int:
        """Return the number of idle processes, also those that have not started."""
        return sum(child is None or child.batch is None for child in self._children)

    def load(self) -> bool:
        """Start all processes, and return whether each has loaded the content."""
        children = [self._start(place) for place in range(self.places)]
        try:
            for child in children:
                self._send_content(child)
            return all(child.connection.recv() is True for child in children)
        except (EOFError, OSError):
            return False

    def submit(self, batch: Batch) -> None:
        """Send the batch to an idle process; start one where there is none."""
        place = next(place for place, child in enumerate(self._children) if child is None or child.batch is None)
        while True:
            child = self._children[place]
            is_new = child is None
            child = child or self._start(place)
            child.batch = batch
            try:
                if is_new:
                    self._send_content(child)
                child.connection.send(batch)
            except OSError:  # it was killed while it was idle
                self._remove(child)
            else:
                return

    def wait(self, seconds: float) -> Sequence[ComputedBatch | FailedBatch]:
        """Return the results that have come; wait at most that long for the first.

        A batch fails with the network's error, or with OutOfMemory or ClassifierUnsuitable where it has ended several processes.
        """
        children = {child.connection: child for child in self._children if child is not None}
        computed: list[ComputedBatch | FailedBatch] = []
        for connection in wait(list(children), seconds):
            child = children[connection]  # type: ignore[index]  # wait returns the connections that it was given
            try:
                reply = child.connection.recv()
            except (EOFError, OSError):
                lost = child.batch
                if (error := self._remove(child)) is not None:
                    computed.append(error)
                elif lost is not None:
                    self.submit(lost)
                continue
            if isinstance(reply, BaseException) and child.batch is not None:
                reply = FailedBatch(child.batch, reply)
            if isinstance(reply, ComputedBatch | FailedBatch):  # otherwise a new process has loaded the network
                child.batch = None
                computed.append(reply)
        return computed

    def close(self) -> None:
        """Kill all processes."""
        children = [child for child in self._children if child is not None]
        for child in children:
            child.process.kill()
        for child in children:
            child.end()

    def _start(self, place: int) -> _Child:
        child = self._starts[place]([child.connection for child in self._children if child is not None])
        self._children[place] = child
        return child

    def _send_content(self, child: _Child) -> None:
        if self._content is not None:
            child.connection.send_bytes(self._content)

    def withdraw(self) -> Collection[Batch]:
        """Return none: a batch starts at once."""
        return ()

    def _remove(self, child: _Child) -> FailedBatch | None:
        """Remove a process that has ended, and return its batch with an error if the batch has ended several processes."""
        status = child.end()
        self._children[self._children.index(child)] = None
        if child.batch is None:
            return None
        self._losses[child.batch] += 1
        if self._losses[child.batch] < _LOSSES:
            return None
        images = len(child.batch.rows)
        if -status == signal.SIGKILL:
            message = (
                f"{_LOSSES} processes were killed while they computed the same {images} images, as happens where memory runs "
                "out. Use fewer processes (--processes, FAAL_PROCESSES) or a smaller batch size."
            )
            return FailedBatch(child.batch, OutOfMemory(message))
        reason = f"signal {-status}" if status < 0 else f"exit status {status}"
        message = f"The network ended {_LOSSES} processes ({reason}) that computed the same {images} images."
        return FailedBatch(child.batch, ClassifierUnsuitable(message))


class Executors:
    """Opens executors for the evaluations of an audit or a training, which compute in processes of this machine.

    The processes are killed at the end of the block.

    Args:
        processes: number of processes, at most one for each GPU; 1 computes in this one, None chooses by a short measurement.
        share: shares the batches with other machines.

    Attributes:
        count: number of processes that the last executor had here; 1 where others could not load the network, None before it.
    """

    def __init__(self, processes: int | None = None, share: ShareWork | None = None) -> None:
        self.processes, self._share = processes, share
        self.count: int | None = None

    def __call__(self, work: BatchWork) -> AbstractContextManager[BatchExecutor]:
        """Open an executor for the work."""
        return self._open_here(work) if self._share is None else self._share(self._open_here, work)

    def with_processes(self, processes: int) -> "Executors":
        """Return executors with that number of processes."""
        return Executors(processes, self._share)

    @contextmanager
    def _open_here(self, work: BatchWork) -> Iterator[BatchExecutor]:
        count = self.processes
        if current_process().daemon:  # it cannot have processes of its own
            count = 1
        if count is None:
            count = choose_processes(work.evaluator, work.specs)
        if count > 1 and (pool := _prepare_pool(work, count)) is not None:
            self.count = pool.places
            try:
                if can_fork(work.evaluator.device) or pool.load():
                    yield pool
                    return
            finally:
                pool.close()
        self.count = 1
        yield OneProcess(work)


def _prepare_pool(work: BatchWork, count: int) -> ProcessPool | None:
    """Return a pool that has started no process; None where there is one GPU, or other processes cannot do the work."""
    device = work.evaluator.device
    if can_fork(device):
        return ProcessPool([partial(_fork, work)] * count) if _is_computed_by_fork(work) else None
    devices = [device] * count
    if device.type == "cuda":
        numbers = range(device.index or 0, torch.cuda.device_count())
        devices = [torch.device("cuda", number) for number in numbers[:count]]
    content = io.BytesIO()
    try:
        torch.save(work, content)
    except (pickle.PicklingError, AttributeError, TypeError, RuntimeError):  # a network of a notebook's own code
        return None
    return ProcessPool([partial(_start_copy, one) for one in devices], content.getbuffer()) if devices[1:] else None


@contextmanager
def _without_interrupts() -> Iterator[None]:
    """Block Ctrl-C, also in processes that begin within the context: their parent answers it."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _is_computed_by_fork(work: BatchWork) -> bool:
    """Return whether a fork predicts an image, too: a network with threads of its own would wait for them there for ever."""
    batch, start = Batch(CLEAN, 0, (0,)), time.monotonic()
    work.compute(batch)
    patience = _FORK_SECONDS + _FORK_FACTOR * (time.monotonic() - start)
    child = _fork(work, [])
    try:
        child.connection.send(batch)
        return child.connection.poll(patience)  # also at its end: the pool says what ended it
    except OSError:
        return False
    finally:
        child.end()


def _fork(work: BatchWork, others: Sequence[Connection]) -> _Child:
    """Start a process that computes batches with one thread, by a fork."""
    own, its = Pipe()
    process = get_context("fork").Process(target=serve_fork, args=(work, its, [own, *others], os.getpid()), daemon=True)
    with _without_interrupts(), warnings.catch_warnings():
        # Python warns of threads: a fork has none of them, and may wait for their locks. The child uses torch with one thread, as
        # the processes of torch's DataLoader do.
        warnings.simplefilter("ignore", DeprecationWarning)
        process.start()
    its.close()
    return _Child(process, own)


def _start_copy(device: torch.device, others: Sequence[Connection]) -> _Child:
    """Start a process that computes batches on a device, with network and images that it receives first."""
    own, its = Pipe()
    code = _START.format(socket=its.fileno(), parent=os.getpid(), device=str(device))
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    with _without_interrupts():
        process = subprocess.Popen(  # noqa: S603 - our own module
            [sys.executable, "-c", code], env=environment, stdin=subprocess.DEVNULL, pass_fds=[its.fileno()]
        )
    its.close()
    return _Child(process, own)
