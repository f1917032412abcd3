"""Limits on the number of connections to the web service, and on the time that a client may keep it waiting.

uvicorn limits only the wait between two requests. Without the limits here, clients that connect and send nothing exhaust the
process's file descriptors, and then no client is answered.
"""

import logging
import resource
import socket
import time
from asyncio import TimerHandle, Transport
from collections.abc import MutableSet
from typing import Any, ClassVar, NamedTuple

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

logger = logging.getLogger(__name__)

DESCRIPTORS = 4096  # most file descriptors that the process uses, if its hard limit allows them
HEAD_PIECE = 16 * 1024  # bytes parsed at a time, so that h11's limit of 16 KiB holds for a head that arrives at once
LOG_SECONDS = 10.0  # between two lines about the same shortage


class Patience(NamedTuple):
    """Limits in seconds on the time that a client may keep the service waiting."""

    head: float = 10.0  # for the complete head of a request; a head fits into a few packets
    body: float = 30.0  # for the complete body of a request that is not an upload: at most 1 MiB
    answer: float = 60.0  # between two signs that the client reads its answer


PATIENCE = Patience()


class Capacity(NamedTuple):
    """The number of connections that a process has room for."""

    connections: int
    backlog: int

    @classmethod
    def for_descriptors(cls, descriptors: int) -> "Capacity":
        """Return the capacity of a process with a number of descriptors.

        A quarter is for connections, a quarter for the files that they download, and a quarter for database, uploads, broker
        and the rest. The last quarter is for sockets that asyncio has accepted and the server has not counted yet: up to
        `backlog` in each of the four turns of the event loop from accepting one to closing another.
        """
        return cls(descriptors // 4, descriptors // 16)


def raise_descriptor_limit() -> int:
    """Raise this process's limit of open files to at most `DESCRIPTORS`. Return the usable number."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    possible = DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, DESCRIPTORS)
    if soft == resource.RLIM_INFINITY or soft >= possible:
        return DESCRIPTORS if soft == resource.RLIM_INFINITY else min(soft, DESCRIPTORS)
    resource.setrlimit(resource.RLIMIT_NOFILE, (possible, hard))
    return possible


class Room:
    """The room for connections of one server, and the connections that wait for their clients.

    Args:
        connections: maximum number of open connections.
        patience: time limits of the clients.
    """

    def __init__(self, connections: int, patience: Patience) -> None:
        self.connections = connections
        self.patience = patience
        self.waiting: dict[Connection, None] = {}  # the longest wait first

    def make_place(self, open_connections: MutableSet[Any]) -> None:
        """Close the connection that waits longest if too many are open.

        The new connection waits too: if all others are being answered, it is the one that is closed.
        """
        if len(open_connections) <= self.connections:
            return
        displaced = next(iter(self.waiting))
        del self.waiting[displaced]
        open_connections.discard(displaced)
        displaced.transport.abort()
        logger.warning("All %d connections are in use: one that kept the service waiting was closed", self.connections)


class Connection(H11Protocol):
    """A connection that is closed when its client keeps the service waiting. Make subclasses with `http_protocol`."""

    room: ClassVar[Room]
    _head_timer: TimerHandle | None = None

    def connection_made(self, transport: Transport) -> None:  # type: ignore[override]
        """Start the wait for the first request. Too many connections displace the one that waits longest."""
        super().connection_made(transport)
        if hasattr(socket, "TCP_USER_TIMEOUT"):  # not on macOS
            # The kernel ends a connection when the client has acknowledged nothing for this time, or has not read what arrived.
            milliseconds = int(1000 * self.room.patience.answer)
            transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, milliseconds)
        self._wait_for_head(self.room.patience.head)
        self.room.make_place(self.connections)

    def connection_lost(self, exc: Exception | None) -> None:
        """Release the place of the connection."""
        self._end_wait()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse the received data; the head of a request ends the wait."""
        size = len(data) if self._is_answering else HEAD_PIECE
        for start in range(0, len(data), size):
            if not self.transport.is_closing():
                super().data_received(data[start : start + size])
        if self._head_timer is not None and self._is_answering:
            self._end_wait()

    def on_response_complete(self) -> None:
        """Start the wait for the next request, unless it has arrived; the rest of this body must arrive meanwhile."""
        super().on_response_complete()
        if not self._is_answering:
            self._wait_for_head(self.timeout_keep_alive + self.room.patience.head)

    def pause_writing(self) -> None:
        """Record that the client does not read its answer."""
        super().pause_writing()
        self.room.waiting.setdefault(self)

    def resume_writing(self) -> None:
        """Resume the answer."""
        super().resume_writing()
        if self._is_answering:
            self.room.waiting.pop(self, None)

    def send_400_response(self, msg: str) -> None:
        """Refuse data that is not HTTP; once an answer has started, only close the connection."""
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            super().send_400_response(msg)
        else:
            self.transport.close()

    def _unsupported_upgrade_warning(self) -> None:
        """Skip uvicorn's advice to install a WebSocket library: a refused upgrade is an ordinary request."""

    @property
    def _is_answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _wait_for_head(self, seconds: float) -> None:
        self._end_wait()
        self.room.waiting[self] = None
        self._head_timer = self.loop.call_later(seconds, self.transport.close)

    def _end_wait(self) -> None:
        self.room.waiting.pop(self, None)
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None


def http_protocol(room: Room) -> type[Connection]:
    """Return the protocol class of a server with this room; uvicorn creates the instances."""
    return type("RoomConnection", (Connection,), {"room": room})


class RareLines(logging.Filter):
    """Pass one of many equal log lines every `LOG_SECONDS`, with the number of lines since the last one.

    asyncio logs each socket that it cannot accept, with a traceback, thousands of times a second.

    Args:
        beginning: first characters of the lines to limit; other lines pass.
    """

    def __init__(self, beginning: str) -> None:
        super().__init__()
        self.beginning = beginning
        self._count, self._next = 0, 0.0

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether the line is logged."""
        line = record.getMessage().partition("\n")[0]
        if not line.startswith(self.beginning):
            return True
        self._count += 1
        if time.monotonic() < self._next:
            return False
        record.msg, record.args, record.exc_info = f"{line} ({self._count} since the last such line)", (), None
        self._count, self._next = 0, time.monotonic() + LOG_SECONDS
        return True


def log_shortages_rarely() -> None:
    """Limit the log lines about missing descriptors and displaced connections."""
    logging.getLogger("asyncio").addFilter(RareLines("socket.accept() out of system resource"))
    logger.addFilter(RareLines("All "))
