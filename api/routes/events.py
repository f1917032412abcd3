"""What happened to a job, and what happens: pages of events, and streams of them."""

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
from api.schemas.resources import EventPage, EventResource
from api.serving.dependencies import Id, Limit, Service
from api.serving.negotiation import preferred
from jobs import keys, queries
from jobs.errors import JobNotFound, KeyRefused
from jobs.states import FINAL

router = APIRouter(tags=["jobs"])

JSON, EVENTS = "application/json", "text/event-stream"
LAST_SEQ = 2**31 - 1  # as far as the column counts
POLL_SECONDS = 0.5  # between looks at the events table for a stream
PING_SECONDS = 15.0  # a stream that is silent for longer may be cut by proxies


@router.get(
    "/jobs/{id}/events",
    response_model=EventPage,
    summary="What happened to a job",
    responses={
        200: {"content": {EVENTS: {"schema": {"type": "string"}}}},
        204: {"description": "To a reconnecting stream: the job has ended and all its events were sent"},
    },
)
def list_job_events(
    job_id: Id,
    service: ReaderDep,
    request: Request,
    after: Annotated[int, Query(ge=0, le=LAST_SEQ, description="events with a higher `seq`")] = 0,
    limit: Limit = 100,
    last_event_id: Annotated[
        int | None, Header(ge=0, le=LAST_SEQ, description="where a stream goes on; sent by browsers")
    ] = None,
) -> Response:
    """Changes of state, stages that ended, epochs and attacks, oldest first: a JSON page, or a stream.

    A stream (`Accept: text/event-stream`) replays what happened after `Last-Event-ID` (or `after`), goes on live, and ends
    with the event of the job's last state: `succeeded`, `failed` or `cancelled`.
    """
    if preferred(request.headers.get("Accept", "*/*"), [JSON, EVENTS]) == EVENTS:
        return _stream(service, job_id, after if last_event_id is None else last_event_id)
    with service.sessions() as session:
        rows, more = queries.event_page(session, job_id, after=after, limit=limit)
        events = [EventResource.of(row) for row in rows]
    page = EventPage(data=events, has_more=more, last_seq=events[-1].seq if events else after)
    return JSONResponse(page.model_dump(mode="json"), headers={"Vary": "Accept"})


def _stream(service: Service, job_id: str, after: int) -> Response:
    """The stream, or 204 to a client that has seen all there will ever be."""
    with service.sessions() as session:
        ended = queries.job(session, job_id).state in FINAL
        if ended and not queries.events(session, job_id, after=after, limit=1):
            return Response(status_code=204)
    return _EventStream(_live_events(service, job_id, after))


class _EventStream(EventSourceResponse):
    """A stream that gives its slot back when the client goes away.

    Args:
        events: takes the slot before its first yield, so that a service without one still has a status to refuse with.
    """

    def __init__(self, events: Generator[bytes, None, None]) -> None:
        self._events = events
        headers = {"X-Accel-Buffering": "no", "Vary": "Accept"}
        super().__init__(chain((next(events),), events), headers=headers)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the events. Closing the generator only lets it leave its `with` block."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._events.close()


def _live_events(service: Service, job_id: str, after: int) -> Generator[bytes, None, None]:
    """A comment, then the events as they come, with pings in between, for as long as job and key are there."""
    with service.streams.of(service.owner), suppress(KeyRefused, JobNotFound):
        yield KEEPALIVE_COMMENT
        spoken = time.monotonic()
        while True:
            with service.sessions() as session:
                if service.key_id is not None:
                    keys.still_valid(session, service.key_id)
                events = [EventResource.of(row) for row in queries.event_page(session, job_id, after=after)[0]]
            for event in events:
                yield format_sse_event(data_str=event.model_dump_json(), event=event.kind, id=str(event.seq))
                if event.kind in FINAL:
                    return
                after, spoken = event.seq, time.monotonic()
            if time.monotonic() - spoken >= PING_SECONDS:
                yield KEEPALIVE_COMMENT
                spoken = time.monotonic()
            if not events:
                time.sleep(POLL_SECONDS)
                yield b""  # a chance to notice that the client is gone
