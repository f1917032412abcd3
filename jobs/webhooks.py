"""Webhooks: where an owner's jobs are announced when they end, and the messages on their way there.

A message is written in the transaction that ends its job, and stays due until it was taken or given up: none is lost, and one
may come twice. Whoever takes one sets the time of its next try first, so that nobody else takes it and a sender that dies loses
nothing.
"""

import json
import math
from collections.abc import Mapping, Sequence
from enum import StrEnum
from http import HTTPStatus
from typing import Any, NamedTuple

from sqlalchemy import delete, func, select, update
from sqlalchemy.orm import Session

from jobs.clock import now, seconds_between
from jobs.errors import QuotaExceeded, WebhookNotFound
from jobs.paging import Page, page
from jobs.quotas import take_turn
from jobs.tables import Job, Webhook, WebhookMessage

MOST_WEBHOOKS = 20  # of one owner
KEEP_SECONDS = 30 * 86_400.0
RETRY_SECONDS = (30, 300, 1800, 7200, 18_000, 36_000, 50_400, 72_000)
"""Between a try and the next, together two days; the first is longer than a try may take."""
PING_SECONDS = 60  # between two pings of a webhook: each is a request to a host that the owner chose
_AT_ONCE = 100
_OF_ONE_OWNER = 10  # of those; who has many on their way does not hold up the others


class MessageState(StrEnum):
    """Where a message stands."""

    WAITING = "waiting"  # for its first or next try
    DELIVERED = "delivered"
    GIVEN_UP = "given-up"


class Due(NamedTuple):
    """A message to be sent now."""

    id: str
    webhook_id: str
    url: str
    body: str


def add(session: Session, *, owner: str, url: str) -> Webhook:
    """A new webhook. Raises: QuotaExceeded."""
    take_turn(session, owner)
    used = session.scalars(select(func.count(Webhook.id)).where(Webhook.owner == owner)).one()
    if used >= MOST_WEBHOOKS:
        raise QuotaExceeded("webhooks", MOST_WEBHOOKS, used)
    webhook = Webhook(owner=owner, url=url)
    session.add(webhook)
    session.flush()
    return webhook


def find(session: Session, webhook_id: str, *, lock: bool = False) -> Webhook:
    """The webhook of that id; locked, nobody else tells it anything or removes it meanwhile. Raises: WebhookNotFound."""
    found = session.get(Webhook, webhook_id, with_for_update=lock)
    if found is None:
        raise WebhookNotFound(f"There is no webhook {webhook_id!r}; `GET /webhooks` lists them.")
    return found


def webhooks(session: Session, *, after: str | None = None, limit: int = 20) -> Page[Webhook]:
    """A page of webhooks, newest first, after the one of that id."""
    return page(session, select(Webhook), Webhook.id, after=after, limit=limit)


def remove(session: Session, webhook_id: str) -> None:
    """Nothing: the webhook is gone, and so are its messages. Raises: WebhookNotFound."""
    webhook = find(session, webhook_id, lock=True)
    session.execute(delete(WebhookMessage).where(WebhookMessage.webhook_id == webhook_id))
    session.delete(webhook)


def messages(session: Session, webhook_id: str, *, after: str | None = None, limit: int = 20) -> Page[WebhookMessage]:
    """A page of its messages, newest first, after the one of that id. Raises: WebhookNotFound."""
    find(session, webhook_id)
    query = select(WebhookMessage).where(WebhookMessage.webhook_id == webhook_id)
    return page(session, query, WebhookMessage.id, after=after, limit=limit)


def state(message: WebhookMessage) -> MessageState:
    """Where that message stands."""
    if message.delivered_at is not None:
        return MessageState.DELIVERED
    return MessageState.GIVEN_UP if message.due_at is None else MessageState.WAITING


def seconds_until_ping(session: Session, webhook_id: str) -> int:
    """Return in how many seconds the webhook can be pinged: 0 if its last ping is 60 s old and waits for no other try.

    The webhook stays locked, so that of two pings at once one waits for the other. Raises: WebhookNotFound.
    """
    find(session, webhook_id, lock=True)
    until_try, age = (
        seconds_between(now(), WebhookMessage.due_at),
        seconds_between(WebhookMessage.created_at, now()),
    )
    pings = select(until_try, age).where(WebhookMessage.webhook_id == webhook_id, WebhookMessage.kind == "ping")
    last = session.execute(pings.order_by(WebhookMessage.id.desc()).limit(1)).one_or_none()
    if last is None:
        return 0
    wait, age_seconds = last
    left = PING_SECONDS - age_seconds
    return max(0, math.ceil(left)) if wait is None else max(1, math.ceil(max(wait, left)))


def ping(session: Session, webhook_id: str) -> WebhookMessage:
    """A message by which a receiver can be tried. Raises: WebhookNotFound."""
    return _post(session, [find(session, webhook_id, lock=True)], "ping", {"webhook": webhook_id})[0]


def announce(session: Session, job: Job) -> None:
    """The job has just ended, which all webhooks of its owner are told."""
    listening = select(Webhook).where(Webhook.owner == job.owner, Webhook.disabled_at.is_(None))
    found = session.scalars(listening.with_for_update(read=True, key_share=True)).all()
    if found:
        data: dict[str, Any] = {"id": job.id, "object": "job", "kind": job.kind, "status": job.state}
        data |= {"model": job.model_id, "dataset": job.dataset, "metadata": job.metadata_, "error": job.error}
        _post(session, found, f"job.{job.state}", data)


def _post(session: Session, to: Sequence[Webhook], kind: str, data: Mapping[str, Any]) -> list[WebhookMessage]:
    at = session.scalars(select(now())).one().isoformat()
    body = json.dumps({"type": kind, "timestamp": at, "data": data}, ensure_ascii=False)
    told = [WebhookMessage(webhook_id=webhook.id, owner=webhook.owner, kind=kind, body=body) for webhook in to]
    session.add_all(told)
    session.flush()
    return told


def waiting(session: Session) -> int:
    """How many messages of everybody's wait for their first or next try."""
    return session.scalars(select(func.count(WebhookMessage.id)).where(WebhookMessage.due_at.is_not(None))).one()


def any_due(session: Session) -> bool:
    """Whether a message is to be sent now."""
    return session.scalar(select(WebhookMessage.id).where(WebhookMessage.due_at <= now()).limit(1)) is not None


def take_due(session: Session) -> list[Due]:
    """Messages to be sent now, each this once: after `RETRY_SECONDS` it is due again unless `settle` says otherwise."""
    due = WebhookMessage.due_at <= now()
    of_owner = func.row_number().over(partition_by=WebhookMessage.owner, order_by=WebhookMessage.due_at)
    ranks = select(WebhookMessage.id, of_owner.label("rank")).where(due).subquery()
    first = select(ranks.c.id).where(ranks.c.rank <= _OF_ONE_OWNER).order_by(ranks.c.rank).limit(_AT_ONCE)
    chosen = select(WebhookMessage, Webhook.url).join(Webhook).where(WebhookMessage.id.in_(first), due)
    taken = session.execute(chosen.with_for_update(of=WebhookMessage, skip_locked=True)).all()
    for message, _ in taken:
        message.tries += 1
        again = message.tries <= len(RETRY_SECONDS)
        message.due_at = now(RETRY_SECONDS[message.tries - 1]) if again else None
    return [Due(message.id, message.webhook_id, url, message.body) for message, url in taken]


def settle(session: Session, message_id: str, *, status: int | None = None, error: str | None = None) -> None:
    """What came of a try: the HTTP status, or why there was none. 410 Gone ends the webhook, as its receiver wishes."""
    if status == HTTPStatus.GONE:
        to = select(WebhookMessage.webhook_id).where(WebhookMessage.id == message_id).scalar_subquery()
        webhook = update(Webhook).where(Webhook.id == to, Webhook.disabled_at.is_(None))
        # The webhook before its message, as in `remove`: else each could wait for the other.
        session.execute(webhook.values(disabled_at=now()))
        session.execute(update(WebhookMessage).where(WebhookMessage.webhook_id == to).values(due_at=None))
    message = session.get(WebhookMessage, message_id, with_for_update=True)
    if message is None:  # its webhook was removed
        return
    message.status, message.error = status, error
    if status is not None and 200 <= status < 300:
        message.due_at, message.delivered_at = None, now()


def forget_old(session: Session) -> None:
    """Messages of `KEEP_SECONDS` ago are removed."""
    session.execute(delete(WebhookMessage).where(WebhookMessage.created_at < now(-KEEP_SECONDS)))
