"""Compute batches in a process of an audit: the other end of the connections of `processes`."""

import gc
import io
import pickle
import signal
import traceback
from collections.abc import Sequence
from multiprocessing.connection import Connection

import torch

from faal_core.auditing.batches import BatchWork
from faal_core.auditing.evaluator import ComputedBatch
from faal_core.errors import FaalError
from faal_core.lifetime import end_with_parent


def serve_fork(work: BatchWork, connection: Connection, others: Sequence[Connection], parent: int) -> None:
    """Compute batches in a fork, with one thread, until the connection is closed.

    Args:
        others: connections of the parent, which the fork has, too.
    """
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # not the handler of the parent
    end_with_parent(parent)
    for other in others:  # else the end of the parent would not close them
        other.close()
    torch.set_num_threads(1)  # before anything else: threads of the parent do not exist here
    gc.freeze()  # a collection would copy the pages of objects that this process shares with its parent
    _serve(work, connection)


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
