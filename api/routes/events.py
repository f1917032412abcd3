"""A job's events: pages of past events, and a stream that continues live."""

import time
from collections.abc import Generator
from contextlib import suppress
from itertools import chain
from typing import Annotated

from fastapi import APIRouter, Header, Query, Request, Response
from fastapi.responses import JSONResponse
from fastapi.sse import KEEPALIVE_COMMENT, EventSourceResponse, format_sse_event
from starlette.types import Receive, Scope, Send

from api.access.authentication import ReaderDep
from api.schemas.rows import describe_event
from api.serving.dependencies import Id, Limit, Service
from api.serving.negotiation import choose_media_type
from faal_client.resources.objects import EventPage
from jobs import keys, queries
from jobs.errors import JobNotFound, KeyRefused
from jobs.states import FINAL

router = APIRouter(tags=["jobs"])

JSON, EVENTS = "application/json", "text/event-stream"
LAST_SEQ = 2**31 - 1  # the largest value of the column
POLL_SECONDS = 0.5  # between two reads of the events table for a stream
PING_SECONDS = 15.0  # proxies may close a stream that is silent for longer


@router.get(
    "/jobs/{id}/events",
    response_model=EventPage,
    summary="List or stream a job's events",
    responses={
        200: {"content": {EVENTS: {"schema": {"type": "string"}}}},
        204: {"description": "The job has ended, and the client has all its events: do not reconnect"},
    },
)
def list_job_events(
    job_id: Id,
    service: ReaderDep,
    request: Request,
    after: Annotated[int, Query(ge=0, le=LAST_SEQ, description="return events with a higher `seq` than this")] = 0,
    limit: Limit = 100,
    last_event_id: Annotated[
        int | None,
        Header(
            ge=0,
            le=LAST_SEQ,
            description="`seq` of the last event received, after which a stream resumes; browsers send it",
        ),
    ] = None,
) -> Response:
    """List the events of a job, oldest first, as a JSON page or as a stream.

    Events are changes of state, finished stages, epochs, attacks and warnings. A stream (`Accept: text/event-stream`) replays the
    events after `Last-Event-ID` (or `after`) and continues live. It ends with the event of the job's last state: `succeeded`,
    `failed` or `cancelled`.
    """
    if choose_media_type(request.headers.get("Accept", "*/*"), [JSON, EVENTS]) == EVENTS:
        return _stream(service, job_id, after if last_event_id is None else last_event_id)
    with service.sessions() as session:
        rows, more = queries.list_event_page(session, job_id, after=after, limit=limit)
        events = [describe_event(row) for row in rows]
    page = EventPage(data=events, has_more=more, last_seq=events[-1].seq if events else after)
    return JSONResponse(page.model_dump(mode="json"), headers={"Vary": "Accept"})


def _stream(service: Service, job_id: str, after: int) -> Response:
    """Return the stream, or 204 if the job has ended and the client has all its events."""
    with service.sessions() as session:
        ended = queries.find_job(session, job_id).state in FINAL
        if ended and not queries.list_events(session, job_id, after=after, limit=1):
            return Response(status_code=204)
    return _EventStream(_live_events(service, job_id, after))


class _EventStream(EventSourceResponse):
    """A stream that releases its slot when the client disconnects.

    Args:
        events: takes the slot before its first yield, so that a request without a free slot is still answered with an error.
    """

    def __init__(self, events: Generator[bytes, None, None]) -> None:
        self._events = events
        headers = {"X-Accel-Buffering": "no", "Vary": "Accept"}
        super().__init__(chain((next(events),), events), headers=headers)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the events, then close the generator, which releases the slot."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._events.close()


def _live_events(service: Service, job_id: str, after: int) -> Generator[bytes, None, None]:
    """Yield a comment, then the events as they arrive, with pings in between, while the job exists and the key is valid."""
    with service.streams.for_owner(service.owner), suppress(KeyRefused, JobNotFound):
        yield KEEPALIVE_COMMENT
        last_sent = time.monotonic()
        while True:
            with service.sessions() as session:
                if service.key_id is not None:
                    keys.require_valid(session, service.key_id)
                events = [describe_event(row) for row in queries.list_event_page(session, job_id, after=after)[0]]
            for event in events:
                yield format_sse_event(data_str=event.model_dump_json(), event=event.kind, id=str(event.seq))
                if event.kind in FINAL:
                    return
                after, last_sent = event.seq, time.monotonic()
            if time.monotonic() - last_sent >= PING_SECONDS:
                yield KEEPALIVE_COMMENT
                last_sent = time.monotonic()
            if not events:
                time.sleep(POLL_SECONDS)
                yield b""  # the server can notice here that the client has disconnected
