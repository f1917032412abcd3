"""Connections whose clients keep the service waiting, or send malformed HTTP."""

import json
import os
import resource
import select
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from http.client import HTTPResponse
from pathlib import Path

import httpx
import pytest

from jobs import lifecycle, model_registry
from jobs.results import StoredClassifier
from tests.service.api.conftest import SPEC, Web
from tests.service.hasty_api import CONNECTIONS, DESCRIPTORS, HASTE
from tests.service.processes import Site, wait_until

KEEP_ALIVE_SECONDS = 5.0  # uvicorn's
MARGIN_SECONDS = 5.0  # of a busy machine
HEALTH = b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
POST = b"POST /jobs/audit HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
BIG = 12 * 2**20  # bytes; more than the kernel's buffers of a connection


@pytest.fixture(scope="module")
def hasty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Web]:
    """Yield a service with few file descriptors and short timeouts."""
    site = Site(tmp_path_factory.mktemp("hasty"))
    try:
        yield Web(site, *site.api("tests.service.hasty_api"))
    finally:
        site.close()


@pytest.fixture
def connect(hasty: Web) -> Iterator[Callable[..., socket.socket]]:
    """Yield a function that opens connections to the service."""
    with ExitStack() as connections:

        def open_connection(receive_buffer: int | None = None) -> socket.socket:
            connection = connections.enter_context(socket.socket())
            connection.settimeout(30)
            if receive_buffer is not None:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
            connection.connect(("127.0.0.1", hasty.site.settings.port))
            return connection

        yield open_connection


def _is_closed(connection: socket.socket) -> bool:
    """Return whether the service has closed the connection; the data that it sent before is dropped."""
    try:
        while select.select([connection], [], [], 0)[0]:
            if not connection.recv(2**16):
                return True
    except ConnectionError:
        return True
    return False


def _seconds_open(start: float, connections: dict[str, socket.socket], drips: dict[str, bytes]) -> dict[str, float]:
    """Return the seconds from `start` until the service closes each connection; its drip is sent ten times a second."""
    seconds: dict[str, float] = {}
    while waiting := connections.keys() - seconds.keys():
        assert time.monotonic() < start + 30, f"still open: {waiting}"
        for name in waiting:
            if _is_closed(connections[name]):
                seconds[name] = time.monotonic() - start
            else:
                with suppress(ConnectionError):  # it is closed the next time
                    connections[name].sendall(drips.get(name, b""))
        time.sleep(0.1)
    return seconds


def _closed_after(*connections: socket.socket) -> float:
    """Return the seconds until the service has closed all of them."""
    by_descriptor = {str(connection.fileno()): connection for connection in connections}
    return max(_seconds_open(time.monotonic(), by_descriptor, {}).values())


def _answer(connection: socket.socket) -> tuple[int, dict]:
    answer = HTTPResponse(connection)
    answer.begin()
    return answer.status, json.loads(answer.read())


def _descriptors(web: Web) -> int:
    return len(list(Path(f"/proc/{web.process.pid}/fd").iterdir()))


def _memory(web: Web) -> int:
    """Return the peak memory of the service in bytes."""
    lines = Path(f"/proc/{web.process.pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


def test_idle_connections_leave_room(hasty, connect) -> None:
    """Health is reported at once while hundreds of clients send nothing, or one byte at a time, and use all connections."""
    log = hasty.process.log.read_text().count("\n")
    idle, dripping, waits = [], [], []
    for _ in range(25):
        idle += [connect() for _ in range(15)]
        dripping.append(connect())
        for connection in dripping:
            if not _is_closed(connection):
                connection.sendall(b"G")
        start = time.monotonic()
        assert httpx.get(f"{hasty.client.base_url}/healthz", timeout=30).is_success
        waits.append(time.monotonic() - start)
        assert _descriptors(hasty) < DESCRIPTORS
    assert sorted(waits)[-3] < 1.0  # a busy machine may hold up two of them
    still_open = [connection for connection in (*idle, *dripping) if not _is_closed(connection)]
    assert len(still_open) <= CONNECTIONS
    assert _closed_after(*still_open) < HASTE.head + MARGIN_SECONDS
    log_lines = hasty.process.log.read_text().splitlines()[log:]
    others = [line for line in log_lines if "GET /healthz 200" not in line]
    assert 1 <= len(others) <= 4, others
    assert all("connections are in use" in line for line in others)
    assert _memory(hasty) < 300 * 2**20
    assert _descriptors(hasty) < DESCRIPTORS / 4


# What a client sends, what it drips afterwards, and the seconds after which it loses its connection.
SLOW = {
    "nothing": (b"", b"", HASTE.head),
    "head": (b"GET /healthz HTTP/1.1\r\n", b"X", HASTE.head),
    "kept alive": (HEALTH, b"", KEEP_ALIVE_SECONDS),
    "second head": (HEALTH, b"X", KEEP_ALIVE_SECONDS + HASTE.head),
    "no body": (POST + b"Content-Length: 99\r\n\r\n", b"", HASTE.body),
    "body": (POST + b"Content-Length: 99\r\n\r\n", b" ", HASTE.body),
    "chunks": (POST + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n", HASTE.body),
    "body behind its answer": (
        HEALTH.replace(b"\r\n\r\n", b"\r\nContent-Length: 999\r\n\r\n"),
        b"X",
        KEEP_ALIVE_SECONDS + HASTE.head,
    ),
}


def test_slow_requests_are_given_up(hasty, connect) -> None:
    """A client that does not complete a request in time loses its connection; a stream without events is kept."""
    job = hasty.audit()
    address, headers = f"/jobs/{job}/events", {"Accept": "text/event-stream"}
    with hasty.client.stream("GET", address, headers=headers, timeout=30) as answer:
        lines = answer.iter_lines()
        assert any("queued" in line for line in lines)
        start = time.monotonic()
        connections = {name: connect() for name in SLOW}
        for name, (pieces, _, _) in SLOW.items():
            connections[name].sendall(pieces)
        open_for = _seconds_open(start, connections, {name: drip for name, (_, drip, _) in SLOW.items()})
        hasty.run(job)
        assert any("running" in line for line in lines)
    for name, (_, _, seconds) in SLOW.items():
        assert seconds <= open_for[name] < seconds + MARGIN_SECONDS, name


def test_a_slow_body_is_told_so(connect) -> None:
    """A body that is not complete in time is answered with a problem that gives this reason."""
    connection = connect()
    connection.sendall(POST + b"Content-Length: 99\r\n\r\n{")
    status, problem = _answer(connection)
    assert (status, problem["code"]) == (408, "upload-too-slow")
    assert f"{HASTE.body:g} s" in problem["detail"]


def test_patient_clients_are_served(hasty, connect) -> None:
    """Requests in sequence, requests at once, and a request that waits for `100 Continue` are all answered."""
    connection = connect()
    connection.sendall(HEALTH * 3)
    answers = b""
    while answers.count(b'{"status":"ok"}') < 3:
        piece = connection.recv(2**16)
        assert piece
        answers += piece
    for _ in range(3):
        time.sleep(HASTE.head * 0.4)
        connection.sendall(HEALTH)
        assert _answer(connection)[0] == 200
    connection.sendall(POST + b"Content-Length: 2\r\nExpect: 100-continue\r\n\r\n")
    assert connection.recv(100).startswith(b"HTTP/1.1 100 ")
    connection.sendall(b"{}")
    assert _answer(connection)[1]["code"] == "invalid-request"


@pytest.fixture(scope="module")
def download(hasty: Web) -> bytes:
    """Return a request for weights of `BIG` bytes."""
    file = hasty.site.storage.put([os.urandom(BIG)], media_type="application/vnd.safetensors")
    with hasty.site.sessions.begin() as session:
        model, check = model_registry.register_upload(session, name="big", spec=SPEC, upload=file, owner="local")
        lifecycle.claim(session, check.id, worker="test", lease_seconds=600)
        lifecycle.succeed(session, check.id, 1, result_model=StoredClassifier(file, SPEC, "d" * 64))
    return b"GET /models/%s/weights HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n" % model.id.encode()


def _received(connection: socket.socket, pause: float) -> int:
    """Return the number of bytes that arrive when a megabyte is read between two pauses."""
    count = 0
    try:
        while count < BIG:
            piece = connection.recv(2**20, socket.MSG_WAITALL)
            if not piece:
                break
            count += len(piece)
            time.sleep(pause)
    except ConnectionError:
        pass
    return count


def test_an_answer_that_is_not_read_is_given_up(hasty, connect, download) -> None:
    """A client that reads nothing of its answer loses its connection; one that reads slowly gets all of it."""
    unread, slow = connect(), connect()
    for connection in (unread, slow):
        connection.sendall(download)
    assert _received(slow, HASTE.answer / 10) >= BIG  # it takes longer than the limit in all, but no pause is as long
    assert _received(unread, 0) < BIG


def test_unread_answers_leave_room(hasty, connect, download) -> None:
    """Another client is answered while too many clients read nothing of their answers."""
    deadline = time.monotonic() + HASTE.answer  # the kernel ends none of them before
    for _ in range(CONNECTIONS + 10):
        connection = connect(receive_buffer=4096)
        with suppress(ConnectionError):  # the service has no place for it
            connection.sendall(download)
        select.select([connection], [], [], 30)

    def answers() -> bool:
        try:
            return httpx.get(f"{hasty.client.base_url}/healthz", timeout=30).is_success
        except httpx.TransportError:  # some of the answers are still on their way into the kernel's buffers
            assert time.monotonic() < deadline, "no client that reads nothing was displaced"
            return False

    wait_until(answers, 30)


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (POST + b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        (HEALTH.replace(b"Host", b"Host: other.example\r\nHost"), 400),
        (HEALTH.replace(b"Host: 127.0.0.1\r\n", b""), 400),
        (b"GET /" + b"a" * 50_000 + b" HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", 400),
        (HEALTH[:-2] + b"a:b\r\n" * 10_000 + b"\r\n", 400),
        (HEALTH[:-2] + b"Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n", 200),
    ],
    ids=["two lengths", "two hosts", "no host", "long address", "many headers", "web socket"],
)
def test_odd_requests(hasty, connect, request_bytes: bytes, status: int) -> None:
    """Ambiguous and endless requests are refused and their connections closed; an upgrade is ignored, without a log line."""
    connection = connect()
    connection.sendall(request_bytes)
    answer = HTTPResponse(connection)
    answer.begin()
    assert answer.status == status
    if status == 400:
        answer.read()
        assert _closed_after(connection) < KEEP_ALIVE_SECONDS - 1
    assert "WebSocket" not in hasty.process.log.read_text()


def test_nonsense_behind_an_answer_is_quiet(hasty, connect) -> None:
    """A body with malformed chunks, after or during the answer, ends the connection without a traceback."""
    log = hasty.process.log.read_text().count("\n")
    job = hasty.audit()
    head = b" HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
    for path in (b"/healthz", f"/jobs/{job}/events".encode()):
        connection = connect()
        connection.sendall(b"GET " + path + head)
        assert connection.recv(2**16).startswith(b"HTTP/1.1 200")
        connection.sendall(b"nonsense\r\n")
        assert _closed_after(connection) < KEEP_ALIVE_SECONDS - 1
    log_text = "\n".join(hasty.process.log.read_text().splitlines()[log:])
    assert "Traceback" not in log_text


def test_missing_descriptors_are_told_once(hasty, connect) -> None:
    """A process without free file descriptors logs one line instead of thousands, and then serves again."""
    limits = resource.prlimit(hasty.process.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(hasty.process.pid, resource.RLIMIT_NOFILE, (0, limits[1]))
    try:
        connections = [connect() for _ in range(5)]
        time.sleep(1.5)  # asyncio tries again after a second
    finally:
        resource.prlimit(hasty.process.pid, resource.RLIMIT_NOFILE, limits)
    connections[0].sendall(HEALTH)
    assert _answer(connections[0])[0] == 200
    log_lines = [line for line in hasty.process.log.read_text().splitlines() if "out of system resource" in line]
    assert len(log_lines) == 1
