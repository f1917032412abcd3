"""Rules for every request: an id, a bounded body, no changes by pages of other sites, and safe headers."""

import re
import uuid

from fastapi import Request
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from structlog.contextvars import bound_contextvars

from api.problems.answers import answer
from api.problems.errors import CrossSiteRequest
from api.problems.hidden_secrets import SHARED
from api.serving.bodies import Body

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")

HEADERS = {
    "Cache-Control": "no-cache",  # clients revalidate their copies; an unchanged one is answered with 304
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}

HEADERS_OF_SHARED_REPORTS = {
    "Cache-Control": "private, no-store",  # no copy outlives the link
    "Referrer-Policy": "no-referrer",  # the address is a secret
    "X-Robots-Tag": "noindex, nofollow, noarchive",
}


class RequestRules:
    """ASGI middleware with the rules of this module.

    Args:
        app: the wrapped application.
        streamed: matches paths whose routes read their body in pieces and limit it themselves.
        body_seconds: time within which any other body must be complete.
    """

    def __init__(self, app: ASGIApp, streamed: re.Pattern[str], body_seconds: float) -> None:
        self.app = app
        self.streamed = streamed
        self.body_seconds = body_seconds
        self._incomplete: dict[Body, None] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        sent_id = headers.get("X-Request-Id", "")
        request_id = sent_id if _REQUEST_ID.fullmatch(sent_id) else f"req_{uuid.uuid4().hex}"
        scope.setdefault("state", {})["request_id"] = request_id
        own_headers = HEADERS_OF_SHARED_REPORTS if scope["path"].startswith(SHARED) else {}
        body = Body(receive, self._incomplete, self.body_seconds)

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                body.is_answered = True
                fields = MutableHeaders(scope=message)
                fields["X-Request-Id"] = request_id
                for name, value in {**HEADERS, **own_headers}.items():
                    fields.setdefault(name, value)
            await send(message)

        if refusal := _refusal(scope["method"], headers):
            await answer(Request(scope), refusal)(scope, receive, send_with_headers)
            return
        bounded = receive if self.streamed.fullmatch(scope["path"]) else body.receive
        try:
            with bound_contextvars(request_id=request_id):
                await self.app(scope, bounded, send_with_headers)
        finally:
            body.forget()


def _refusal(method: str, headers: Headers) -> Exception | None:
    """Return the error that refuses the request before it reaches a route; None if there is none."""
    if "Content-Length" in headers and "Transfer-Encoding" in headers:
        # A proxy that trusts the other header reads a part of the body as a second request (RFC 9112, section 6.1).
        ambiguous = "Send either Content-Length or Transfer-Encoding; with both, the end of the body is ambiguous."
        return HTTPException(400, ambiguous, {"Connection": "close"})
    if _is_foreign(headers) and method not in ("GET", "HEAD", "OPTIONS"):
        return CrossSiteRequest("A page of another site sent this request. Use the pages of this service, or its API.")
    return None


def _is_foreign(headers: Headers) -> bool:
    """Return whether a page of another site sent the request. Over plain HTTP, browsers send only `Origin`."""
    if (site := headers.get("Sec-Fetch-Site")) is not None:
        return site not in ("none", "same-origin")
    host = headers.get("Host")
    return "Origin" in headers and headers["Origin"] not in (f"http://{host}", f"https://{host}")
