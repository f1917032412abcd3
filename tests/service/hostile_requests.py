"""Uploads that are hostile by the way they are sent: false lengths and digests, and bodies that drip, break off or never end."""

import itertools
import json
import select
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from http.client import HTTPResponse
from typing import Any

from tests.service.hostile_files import BOUNDARY, FOLDERS, FORM_TYPE, Hostile, form, zip_archive

ZEROS = "A" * 43 + "="  # 32 bytes in base64
SILENCE_SECONDS = 60.0  # twice what the service waits for


@dataclass(frozen=True)
class Answer:
    """The response: status and problem, or status 0 where the connection was closed without one; and the seconds until then."""

    status: int
    problem: dict[str, Any]
    seconds: float


@dataclass(frozen=True)
class SenderCase:
    """A body that must be refused for the way it is sent.

    Args:
        name: the name of the case.
        status: the status of the response, 0 for none.
        code: the code of the problem.
        pieces: the parts of the request after its first line and `Host`; a number is a pause in seconds.
        leaves: whether the sender disconnects after the last piece.
    """

    name: str
    status: int
    code: str
    pieces: Callable[[], Iterator[bytes | float]]
    leaves: bool = False

    def exchange(self, address: tuple[str, int]) -> Answer:
        """Send the request until an answer comes, and return the answer."""
        start = time.monotonic()
        with socket.create_connection(address, timeout=SILENCE_SECONDS) as connection:
            status, problem = 0, {}
            with suppress(ConnectionError, TimeoutError):
                self._send(connection, address)
            with suppress(ConnectionError, TimeoutError):
                answer = HTTPResponse(connection)
                answer.begin()
                status, problem = answer.status, json.load(answer)
        return Answer(status, problem, time.monotonic() - start)

    def _send(self, connection: socket.socket, address: tuple[str, int]) -> None:
        connection.sendall(f"POST /datasets HTTP/1.1\r\nHost: {address[0]}:{address[1]}\r\n".encode())
        for piece in self.pieces():
            pause = 0.0 if isinstance(piece, bytes) else piece
            if isinstance(piece, bytes):
                connection.sendall(piece)
            if select.select([connection], [], [], pause)[0]:
                return
        if self.leaves:
            connection.shutdown(socket.SHUT_WR)


_BODY = form(zip_archive(FOLDERS), {})


def _head(*fields: str) -> bytes:
    return "\r\n".join([f"Content-Type: {FORM_TYPE}", *fields, "", ""]).encode()


def _chunk(content: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(content), content)


def _dripping() -> Iterator[bytes | float]:
    drops = int(SILENCE_SECONDS)
    yield _head(f"Content-Length: {len(_BODY)}") + _BODY[:-drops]
    for drop in _BODY[-drops:]:
        yield bytes([drop])
        yield 1.0


def _beyond_the_body() -> Iterator[bytes | float]:
    yield _head(f"Content-Length: {len(_BODY) + 100}") + _BODY


def _short_of_the_body() -> Iterator[bytes | float]:
    yield _head(f"Content-Length: {len(_BODY) - 20}") + _BODY


def _trillion_bytes() -> Iterator[bytes | float]:
    yield _head(f"Content-Length: {10**12}") + _BODY


def _breaks_off() -> Iterator[bytes | float]:
    yield _head(f"Content-Length: {len(_BODY)}") + _BODY[: len(_BODY) // 2]


def _goes_on_behind_the_form() -> Iterator[bytes | float]:
    yield _head("Transfer-Encoding: chunked") + _chunk(_BODY)
    yield from itertools.repeat(_chunk(bytes(2**20)), 200)
    yield _chunk(b"")


def _long_header() -> Iterator[bytes | float]:
    yield _head("Transfer-Encoding: chunked") + _chunk(f"--{BOUNDARY}\r\nContent-Disposition: ".encode())
    yield from itertools.repeat(_chunk(b"x" * 2**20), 200)
    yield _chunk(b"")


SENT = [
    SenderCase("dripping", 408, "upload-too-slow", _dripping),
    SenderCase("length-beyond-the-body", 408, "upload-too-slow", _beyond_the_body),
    SenderCase("length-short-of-the-body", 400, "malformed-body", _short_of_the_body),
    SenderCase("length-of-a-trillion", 413, "upload-too-large", _trillion_bytes),
    SenderCase("breaks-off", 0, "", _breaks_off, leaves=True),
    SenderCase("goes-on-behind-the-form", 413, "upload-too-large", _goes_on_behind_the_form),
    SenderCase("header-of-200-MB-in-a-part", 400, "malformed-body", _long_header),
]


def _mismatch(name: str, reason: str, **lie: Any) -> Hostile:
    return Hostile(name, "/datasets", "digest-mismatch", lambda _: zip_archive(FOLDERS), 400, reason, **lie)


_OF_ANOTHER = f"sha-256=:{ZEROS}:"

DIGESTS = [
    _mismatch("content-digest-of-another", "The body that arrived", headers={"Content-Digest": _OF_ANOTHER}),
    _mismatch("repr-digest-of-another", "The body that arrived", headers={"Repr-Digest": _OF_ANOTHER}),
    _mismatch("part-digest-of-another", "The file that arrived", part_headers=f"Content-Digest: {_OF_ANOTHER}\r\n"),
    _mismatch("digest-of-no-base64", "no readable SHA-256", headers={"Content-Digest": "sha-256=:ä:"}),
]
