"""Log and count every request, also if it fails."""

import logging
import time
from urllib.parse import quote

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.problems.hidden_secrets import hide_secrets
from api.serving.metrics import Metrics

logger = logging.getLogger(__name__)

_GONE = 499  # the client disconnected before the answer; the code that nginx uses
_FAILED = 500  # the server's answer to an exception that passes this middleware


class RequestLog:
    """ASGI middleware around `RequestRules`, which gives the request its id."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self.app = app
        self.metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, then log and count it."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started_at, answered_at, status = time.monotonic(), None, _GONE

        async def listen(message: Message) -> None:
            nonlocal answered_at, status
            if message["type"] == "http.response.start":
                answered_at, status = time.monotonic(), message["status"]
            await send(message)

        try:
            await self.app(scope, receive, listen)
        except Exception:
            status = _FAILED
            raise
        finally:
            ended = time.monotonic()
            route = getattr(scope.get("route"), "path", None)
            self.metrics.count_request(scope["method"], route, status, (answered_at or ended) - started_at)
            _log(scope, status, ended - started_at)


def _log(scope: Scope, status: int, seconds: float) -> None:
    """Log the request, its id, the id of its API key or of its link, and its duration up to the last byte."""
    query = scope["query_string"].decode("latin-1")
    address = hide_secrets(quote(scope["path"]) + (f"?{query}" if query else ""))
    ids = {name: scope["state"].get(name) for name in ("request_id", "key_id", "link_id")}
    known = {name: value for name, value in ids.items() if value is not None}
    logger.info("%s %s %d", scope["method"], address, status, extra={**known, "seconds": round(seconds, 4)})
