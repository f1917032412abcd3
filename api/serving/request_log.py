"""A line in the log and a count in the metrics for every request, however it ended."""

import logging
import time
from urllib.parse import quote

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.serving.metrics import Metrics

logger = logging.getLogger(__name__)

_GONE = 499  # the client went away before there was an answer; as nginx has it
_FAILED = 500  # what is raised through here is answered with by the server


class RequestLog:
    """ASGI middleware around `RequestRules`, which gives the request its id."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self.app = app
        self.metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let one request be answered, and tell of it."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        begun, answered, status = time.monotonic(), None, _GONE

        async def listen(message: Message) -> None:
            nonlocal answered, status
            if message["type"] == "http.response.start":
                answered, status = time.monotonic(), message["status"]
            await send(message)

        try:
            await self.app(scope, receive, listen)
        except Exception:
            status = _FAILED
            raise
        finally:
            ended = time.monotonic()
            route = getattr(scope.get("route"), "path", None)
            self.metrics.answered(scope["method"], route, status, (answered or ended) - begun)
            _log(scope, status, ended - begun)


def _log(scope: Scope, status: int, seconds: float) -> None:
    """The request, its id, the key that asked, and how long it took to the last byte."""
    query = scope["query_string"].decode("latin-1")
    address = quote(scope["path"]) + (f"?{query}" if query else "")
    about = {name: scope["state"].get(name) for name in ("request_id", "key_id")}
    known = {name: value for name, value in about.items() if value is not None}
    logger.info("%s %s %d", scope["method"], address, status, extra={**known, "seconds": round(seconds, 4)})
