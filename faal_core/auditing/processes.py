"""Compute the batches of an evaluation in processes of this machine: of one thread each on a CPU, or one for each GPU.

On a CPU the processes are forked: they share network and images, even those that exist in a notebook alone. A process that has
used a GPU cannot be forked. There each GPU gets a new process, which receives a copy of network and images.
"""

import gc
import io
import os
import pickle
import signal
import subprocess
import sys
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from multiprocessing import Pipe, current_process, get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess

import torch

from faal_core.auditing.batches import BatchExecutor, BatchWork, OneProcess
from faal_core.auditing.evaluator import ComputedBatch
from faal_core.auditing.parallelism import can_fork, choose_processes
from faal_core.errors import ClassifierUnsuitable, FaalError, OutOfMemory
from faal_core.lifetime import end_with_parent
from faal_core.results.schedule import Batch

_LOSSES = 3  # processes that one batch may end before the audit is given up
_START = "from faal_core.auditing.processes import serve_copy; serve_copy({socket}, {parent}, {device!r})"


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

    def wait(self, seconds: float) -> Sequence[ComputedBatch]:
        """Return the results that have come; wait at most that long for the first.

        Raises: ClassifierUnsuitable, OutOfMemory, also where a batch has ended several processes; other errors of the network.
        """
        children = {child.connection: child for child in self._children if child is not None}
        computed = []
        for connection in wait(list(children), seconds):
            child = children[connection]  # type: ignore[index]  # wait returns the connections that it was given
            try:
                reply = child.connection.recv()
            except (EOFError, OSError):
                if (lost := self._remove(child)) is not None:
                    self.submit(lost)
                continue
            if isinstance(reply, BaseException):
                raise reply
            if isinstance(reply, ComputedBatch):  # otherwise a new process has loaded the network
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

    def _remove(self, child: _Child) -> Batch | None:
        """Remove a process that has ended, and return its batch. Raises: OutOfMemory, ClassifierUnsuitable."""
        status = child.end()
        self._children[self._children.index(child)] = None
        if child.batch is None:
            return None
        self._losses[child.batch] += 1
        if self._losses[child.batch] < _LOSSES:
            return child.batch
        if -status == signal.SIGKILL:
            raise OutOfMemory(
                f"{_LOSSES} processes were killed while they computed the same {len(child.batch.rows)} images, as happens where "
                "memory runs out. Use fewer processes or a smaller batch size."
            )
        reason = f"signal {-status}" if status < 0 else f"exit status {status}"
        raise ClassifierUnsuitable(
            f"The network ended {_LOSSES} processes ({reason}) that computed the same {len(child.batch.rows)} images."
        )


class LocalProcesses:
    """Opens an executor of this machine's processes, which are killed at the end of the block.

    Args:
        count: number of processes, at most one for each GPU; 1 computes in this one, None chooses by a short measurement.

    Attributes:
        count: number of processes that the last executor had; 1 where other processes could not load the network.
    """

    def __init__(self, count: int | None) -> None:
        self.count = count

    @contextmanager
    def __call__(self, work: BatchWork) -> Iterator[BatchExecutor]:
        """Yield an executor for the work."""
        if current_process().daemon:  # it cannot have processes of its own
            self.count = 1
        if self.count is None:
            self.count = choose_processes(work.evaluator, work.specs)
        if self.count > 1 and (pool := _prepare_pool(work, self.count)) is not None:
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
    """Return a pool that has started no process; None where there is one GPU, or the work cannot be copied."""
    device = work.evaluator.device
    if can_fork(device):
        return ProcessPool([partial(_fork, work)] * count)
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


def _fork(work: BatchWork, others: Sequence[Connection]) -> _Child:
    """Start a process that computes batches with one thread, by a fork."""
    own, its = Pipe()
    process = get_context("fork").Process(
        target=_serve_fork, args=(work, its, [own, *others], os.getpid()), daemon=True
    )
    with _without_interrupts(), warnings.catch_warnings():
        # Python warns of threads: a fork has none of them, and may wait for their locks. The child uses torch with one thread, as
        # the processes of torch's DataLoader do.
        warnings.simplefilter("ignore", DeprecationWarning)
        process.start()
    its.close()
    return _Child(process, own)


def _serve_fork(work: BatchWork, connection: Connection, others: Sequence[Connection], parent: int) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # not the handler of the parent
    end_with_parent(parent)
    for other in others:  # else the end of the parent would not close them
        other.close()
    torch.set_num_threads(1)  # before anything else: threads of the parent do not exist here
    gc.freeze()  # a collection would copy the pages of objects that this process shares with its parent
    _serve(work, connection)


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


def serve_copy(socket: int, parent: int, device: str) -> None:
    """Compute batches until the connection is closed, with network and images that come through it."""
    end_with_parent(parent)
    connection = Connection(socket)
    torch.set_num_threads(1)
    places = {f"cuda:{number}": device for number in range(torch.cuda.device_count())}
    try:
        # The content comes from the parent alone.
        work = torch.load(io.BytesIO(connection.recv_bytes()), map_location=places, weights_only=False)
    except Exception:  # noqa: BLE001 - whatever modules of other people raise: the parent computes alone
        connection.send(False)
        return
    work.evaluator.device = torch.device(device)
    connection.send(True)
    _serve(work, connection)


def _serve(work: BatchWork, connection: Connection) -> None:
    """Compute the batches that come through the connection until it is closed."""
    while True:
        try:
            batch = connection.recv()
        except EOFError:
            return
        try:
            reply: ComputedBatch | BaseException = work.compute(batch)
        except BaseException as error:  # noqa: BLE001 - the parent raises it
            reply = _make_sendable(error)
        connection.send(reply)


def _make_sendable(error: BaseException) -> BaseException:
    """Return the error, or a RuntimeError with its text where it cannot be sent to another process."""
    if not isinstance(error, FaalError):
        error.add_note("".join(traceback.format_exception(error)))
    try:
        pickle.loads(pickle.dumps(error))  # noqa: S301 - our own
    except Exception:  # noqa: BLE001 - an error of other people's code, with whatever arguments
        text = RuntimeError(f"{type(error).__name__}: {error}")
        text.add_note("".join(traceback.format_exception(error)))
        return text
    return error
