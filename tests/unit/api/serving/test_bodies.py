"""The limit on the number of incomplete bodies."""

import anyio
import pytest
from starlette.exceptions import HTTPException
from starlette.types import Message

from api.serving.bodies import BODY_LIMIT, INCOMPLETE, Body

SECONDS = 60.0  # longer than any of these tests


async def _silence() -> Message:
    await anyio.sleep_forever()
    raise AssertionError


async def _last_piece() -> Message:
    return {"type": "http.request", "body": b"}", "more_body": False}


def test_the_oldest_incomplete_body_makes_room() -> None:
    """One incomplete body above the limit ends the wait for the oldest with 408; a complete body does not count."""

    async def scenario() -> None:
        incomplete: dict[Body, None] = {}
        statuses: list[int] = []

        async def wait(number: int) -> None:
            with pytest.raises(HTTPException, match="later bodies arrived") as refusal:
                await Body(_silence, incomplete, SECONDS).receive()
            assert (refusal.value.status_code, refusal.value.headers) == (408, {"Connection": "close"})
            statuses.append(number)

        async with anyio.create_task_group() as group:
            for number in range(INCOMPLETE):
                group.start_soon(wait, number)
            await anyio.wait_all_tasks_blocked()
            assert (statuses, len(incomplete)) == ([], INCOMPLETE)
            group.start_soon(wait, INCOMPLETE)
            await anyio.wait_all_tasks_blocked()
            assert (statuses, len(incomplete)) == ([0], INCOMPLETE)
            whole = Body(_last_piece, incomplete, SECONDS)
            assert (await whole.receive())["body"] == b"}"
            assert whole not in incomplete
            group.cancel_scope.cancel()

    anyio.run(scenario)


def test_an_answered_body_is_not_counted() -> None:
    """Data that arrive after an answer have no limit of size or time: a stream that waits for its client to leave continues."""

    async def much() -> Message:
        return {"type": "http.request", "body": bytes(BODY_LIMIT + 1), "more_body": True}

    async def scenario() -> None:
        body = Body(much, {}, SECONDS)
        with pytest.raises(HTTPException, match="at most"):
            await body.receive()
        body.is_answered = True
        assert len((await body.receive())["body"]) == BODY_LIMIT + 1

    anyio.run(scenario)
