"""`python -m worker.fork_server CONTROL MODULE…`: imports the modules, then forks a guard for each request.

A guard starts the requested process, signals it on request, and reports its end. This process has one thread and reads no
request, so it never holds a secret. `worker.warm_process` has the other ends of its sockets.
"""

import gc
import json
import os
import select
import signal
import socket
import struct
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from importlib import import_module
from pkgutil import resolve_name
from typing import Any

from worker.process_group import name_process
from worker.warm_process import CLOSE, ENDED, KILL, LENGTH, STARTED, STATUS, TERMINATE, ForkClient


def serve(control: int, modules: Sequence[str]) -> Callable[[], None] | None:
    """Start a guard for each message on the socket `control`, until its last client has closed it.

    Returns: None at the end; in a requested process, the call that it is to make.
    """
    name_process("faal-warm")
    for module in modules:
        import_module(module)
    gc.collect()
    gc.freeze()  # a collection would write to pages that forks share
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # guards leave no zombies
    # Not for this process and its guards: if all processes are asked to stop, guards wait until their jobs have stored all.
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
    requests = socket.socket(fileno=control)
    while True:
        message, descriptors, _, _ = socket.recv_fds(requests, 1, 2, socket.MSG_CMSG_CLOEXEC)
        if not message:
            return None
        if os.fork() == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            requests.close()
            return guard(*descriptors)
        for descriptor in descriptors:
            os.close(descriptor)


def guard(connection_end: int, client_end: int | None = None) -> Callable[[], None]:
    """Start the process that is requested on the connection, and watch it until the connection closes.

    Returns: in the requested process, the call that it is to make. The guard itself does not return.

    Args:
        client_end: a socket on which the process may request others.
    """
    guard_id = os.getpid()
    try:
        connection = socket.socket(fileno=connection_end)
        (length,) = struct.unpack(LENGTH, _receive(connection, struct.calcsize(LENGTH)))
        request = json.loads(_receive(connection, length))
        if (leader := os.fork()) == 0:
            connection.close()
            return partial(_call, **request, parent=guard_id, client_end=client_end)
        if client_end is not None:
            os.close(client_end)
        _watch(connection, leader)
    finally:
        if os.getpid() == guard_id:
            os._exit(0)  # without the modules' handlers at exit
    raise AssertionError


def _receive(connection: socket.socket, length: int) -> bytes:
    """Return that many bytes. Raises: EOFError where the connection closes before."""
    content = bytearray()
    while len(content) < length:
        if not (more := connection.recv(length - len(content))):
            raise EOFError
        content += more
    return bytes(content)


def _watch(connection: socket.socket, leader: int) -> None:
    """Send signals to the leader or its group on request, and report its end; then kill the group.

    The leader is reaped last. Until then no other process gets its number, so a signal never reaches a stranger.
    """
    end = os.pidfd_open(leader)
    poll = select.poll()
    poll.register(connection, select.POLLIN)
    poll.register(end, select.POLLIN)
    _answer(connection, STARTED)
    request, has_ended = b"", False
    while request != CLOSE:
        ready = [descriptor for descriptor, _ in poll.poll()]
        if end in ready:
            poll.unregister(end)
            _answer(connection, ENDED)
            has_ended = True
        if connection.fileno() in ready:
            request = _read_request(connection)
            if request == TERMINATE:
                os.kill(leader, signal.SIGTERM)
            elif request == KILL:
                _kill_group(leader)
    _kill_group(leader)
    _, status = os.waitpid(leader, 0)
    _answer(connection, (b"" if has_ended else ENDED) + struct.pack(STATUS, os.waitstatus_to_exitcode(status)))


def _read_request(connection: socket.socket) -> bytes:
    try:
        return connection.recv(1) or CLOSE
    except ConnectionError:
        return CLOSE


def _answer(connection: socket.socket, message: bytes) -> None:
    with suppress(OSError):  # nobody may listen any more
        connection.sendall(message)


def _kill_group(leader: int) -> None:
    try:
        os.killpg(leader, signal.SIGKILL)
    except ProcessLookupError:  # it leads no group yet
        os.kill(leader, signal.SIGKILL)


def _call(
    function: str,
    arguments: Sequence[Any],
    environment: dict[str, str],
    process_name: str,
    output: str | None,
    *,
    parent: int,
    client_end: int | None,
) -> None:
    """Call the function in the process that was requested for it, as the leader of a group."""
    os.setsid()
    name_process(process_name)
    os.environ.clear()
    os.environ.update(environment)
    if "torch" in sys.modules and "OMP_NUM_THREADS" in environment:  # which OpenMP read when torch loaded
        sys.modules["torch"].set_num_threads(int(environment["OMP_NUM_THREADS"]))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])  # a request that came before takes effect now
    tempfile.tempdir = None  # the environment names it
    if output is not None:
        file = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.dup2(file, 1)
        os.dup2(file, 2)
        os.close(file)
    forks = {} if client_end is None else {"forks": ForkClient.from_descriptor(client_end)}
    resolve_name(function)(*arguments, parent, **forks)


if __name__ == "__main__":
    call = serve(int(sys.argv[1]), sys.argv[2:])
    if call is not None:
        call()
