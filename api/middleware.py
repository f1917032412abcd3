"""What holds for every request: an id, a bounded body, no changes asked for by other sites, and safe headers."""

import re
import uuid

from fastapi import Request
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from structlog.contextvars import bound_contextvars

from api.errors import CrossSiteRequest
from api.problems import answer

BODY_LIMIT = 1024 * 1024  # bytes; a spec with 10,000 class names stays below it
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")

HEADERS = {
    "Cache-Control": "no-cache",  # kept copies are asked about; whoever has the present version gets 304
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


class RequestRules:
    """ASGI middleware with the rules of this module.

    Args:
        app: what answers.
        streamed: matches paths whose routes read their body piece by piece and bound it themselves.
    """

    def __init__(self, app: ASGIApp, streamed: re.Pattern[str]) -> None:
        self.app = app
        self.streamed = streamed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        sent_id = headers.get("X-Request-Id", "")
        request_id = sent_id if _REQUEST_ID.fullmatch(sent_id) else f"req_{uuid.uuid4().hex}"
        scope.setdefault("state", {})["request_id"] = request_id

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                fields = MutableHeaders(scope=message)
                fields["X-Request-Id"] = request_id
                for name, value in HEADERS.items():
                    fields.setdefault(name, value)
            await send(message)

        if _foreign(headers) and scope["method"] not in ("GET", "HEAD", "OPTIONS"):
            refused = CrossSiteRequest(
                "A page of another site asked for this. Use the pages of this service, or its API."
            )
            await answer(Request(scope), refused)(scope, receive, send_with_headers)
            return
        bounded = receive if self.streamed.fullmatch(scope["path"]) else _bounded(receive)
        with bound_contextvars(request_id=request_id):
            await self.app(scope, bounded, send_with_headers)


def _foreign(headers: Headers) -> bool:
    """Whether a page of another site asks. Browsers that do not say so, as over plain HTTP, tell where the page is from."""
    if (site := headers.get("Sec-Fetch-Site")) is not None:
        return site not in ("none", "same-origin")
    host = headers.get("Host")
    return "Origin" in headers and headers["Origin"] not in (f"http://{host}", f"https://{host}")


def _bounded(receive: Receive) -> Receive:
    """`receive` that refuses to go on after `BODY_LIMIT` bytes."""
    received = 0

    async def receive_bounded() -> Message:
        nonlocal received
        message = await receive()
        received += len(message.get("body", b""))
        if received > BODY_LIMIT:
            raise HTTPException(413, f"A body of this kind has at most {BODY_LIMIT:,} bytes.")
        return message

    return receive_bounded
