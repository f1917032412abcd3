"""Limits on the size, the duration and the number of request bodies that are read as a whole."""

from http import HTTPStatus

import anyio
from starlette.exceptions import HTTPException
from starlette.types import Message, Receive

BODY_LIMIT = 1024 * 1024  # bytes; a spec with 10,000 class names stays below it
INCOMPLETE = 64  # bodies that arrive at once; together they fill at most 64 MiB of memory
_CLOSE = {"Connection": "close"}  # otherwise the server would wait for the rest


class Body:
    """A request body that is arriving.

    Args:
        receive: the ASGI function that returns the messages of the request.
        incomplete: all bodies that are arriving, the oldest first.
        seconds: time within which the body must be complete.
    """

    def __init__(self, receive: Receive, incomplete: "dict[Body, None]", seconds: float) -> None:
        self.is_answered = False
        self._receive = receive
        self._incomplete = incomplete
        self._seconds = seconds
        self._deadline = anyio.current_time() + seconds
        self._size = 0
        self._is_complete = False
        self._is_displaced = False
        self._wait: anyio.CancelScope | None = None

    async def receive(self) -> Message:
        """Return the next message.

        Raises: HTTPException with 413 above `BODY_LIMIT`; with 408 when the body comes too slowly, or is the oldest of too
        many that are incomplete.
        """
        if self._is_complete or self.is_answered:  # the caller now waits for the client to disconnect
            return await self._receive()
        if self._is_displaced:
            raise self._too_slow()
        self._incomplete.setdefault(self)
        if len(self._incomplete) > INCOMPLETE:
            next(iter(self._incomplete)).displace()
        with anyio.CancelScope(deadline=self._deadline) as self._wait:
            message = await self._receive()
        if self._wait.cancelled_caught:
            raise self._too_slow()
        self._size += len(message.get("body", b""))
        if self._size > BODY_LIMIT:
            raise HTTPException(
                413, f"This body may have at most {BODY_LIMIT:,} bytes, and has more. Send a smaller one."
            )
        self._is_complete = not message.get("more_body", False)
        if self._is_complete:
            self.forget()
        return message

    def displace(self) -> None:
        """Give the place of this body to another body."""
        self.forget()
        self._is_displaced = True
        if self._wait is not None:
            self._wait.cancel()

    def forget(self) -> None:
        """Stop counting this body as incomplete."""
        self._incomplete.pop(self, None)

    def _too_slow(self) -> HTTPException:
        reason = f"{INCOMPLETE} later bodies arrived" if self._is_displaced else f"{self._seconds:g} s had passed"
        return HTTPException(
            HTTPStatus.REQUEST_TIMEOUT, f"The body was not complete when {reason}. Send it again.", _CLOSE
        )
