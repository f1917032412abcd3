"""A receiver of webhooks on this machine."""

import ssl
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import chain, repeat


class Receiver:
    """The requests that arrived, as headers (names in lower case) and body, and the port of the server."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.requests: list[tuple[dict[str, str], bytes]] = []

    @property
    def url(self) -> str:
        """Return its URL without TLS."""
        return f"http://127.0.0.1:{self.port}/hook"


@contextmanager
def run_receiver(
    answers: Sequence[int] = (), *, drip_seconds: float = 0, tls: ssl.SSLContext | None = None
) -> Iterator[Receiver]:
    """Run a receiver.

    Args:
        answers: the statuses of its first answers; the rest are 204.
        drip_seconds: when not 0, it sends one byte of a header in each such interval, and no complete answer.
        tls: serves HTTPS when present.
    """
    turn = chain(answers, repeat(204))

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            receiver.requests.append(({name.lower(): value for name, value in self.headers.items()}, body))
            while drip_seconds and not ending.wait(drip_seconds):
                self.wfile.write(b"H")
            if drip_seconds:
                return
            self.send_response(next(turn))
            self.send_header("Location", f"http://127.0.0.1:{self.server.server_address[1]}/elsewhere")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Log no request."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.handle_error = lambda *_: None
        if tls is not None:
            server.socket = tls.wrap_socket(server.socket, server_side=True)
        receiver, ending = Receiver(server.server_port), threading.Event()
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield receiver
        finally:
            ending.set()
            server.shutdown()
            thread.join()
