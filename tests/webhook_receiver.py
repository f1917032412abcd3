"""A receiver of webhooks, on this machine."""

import ssl
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import chain, repeat


class Receiver:
    """What came, as headers (names in lower case) and body, and where it is to be sent."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.received: list[tuple[dict[str, str], bytes]] = []

    @property
    def url(self) -> str:
        """Its address without TLS."""
        return f"http://127.0.0.1:{self.port}/hook"


@contextmanager
def receiver(
    answers: Sequence[int] = (), *, drip_seconds: float = 0, tls: ssl.SSLContext | None = None
) -> Iterator[Receiver]:
    """A receiver that gives those answers, in turn, then 204; dripping, it sends a byte of a header in so many seconds."""
    turn = chain(answers, repeat(204))

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            made.received.append(({name.lower(): value for name, value in self.headers.items()}, body))
            while drip_seconds and not ending.wait(drip_seconds):
                self.wfile.write(b"H")
            if drip_seconds:
                return
            self.send_response(next(turn))
            self.send_header("Location", f"http://127.0.0.1:{self.server.server_port}/elsewhere")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Nothing is logged."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.handle_error = lambda *_: None  # clients that go away
        if tls is not None:
            server.socket = tls.wrap_socket(server.socket, server_side=True)
        made, ending = Receiver(server.server_port), threading.Event()
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield made
        finally:
            ending.set()
            server.shutdown()
            thread.join()
