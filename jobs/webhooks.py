"""Webhooks: addresses at which an owner's ended jobs and falls of accuracy are announced, and the messages on their way there.

A message is written in the transaction that ends its job, or finds the fall. It is sent again until it is delivered or given up:
none is lost, and one may arrive twice. A sender sets the time of the next try before it sends. So no other sender takes the same
message, and a sender that dies loses nothing.
"""

import json
import math
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any, NamedTuple

from sqlalchemy import delete, func, select, update
from sqlalchemy.orm import Session

from faal_client.vocabulary import MessageState
from jobs.clock import now, seconds_between
from jobs.errors import QuotaExceeded, WebhookNotFound
from jobs.paging import Page, read_page
from jobs.quotas import lock_owner
from jobs.tables import Job, Webhook, WebhookMessage

MOST_WEBHOOKS = 20  # of one owner
KEEP_SECONDS = 30 * 86_400.0
RETRY_SECONDS = (30, 300, 1800, 7200, 18_000, 36_000, 50_400, 72_000)
"""Between a try and the next, together two days; the first is longer than a try may take."""
PING_SECONDS = 60  # between two pings of a webhook: each is a request to a host that the owner chose
_AT_ONCE = 100
_OF_ONE_OWNER = 10  # of those, so that an owner with many messages does not delay the others


class DueMessage(NamedTuple):
    """A message to be sent now."""

    id: str
    webhook_id: str
    url: str
    body: str


def add_webhook(session: Session, *, owner: str, url: str) -> Webhook:
    """Add a webhook and return it. Raises: QuotaExceeded."""
    lock_owner(session, owner)
    used = session.scalars(select(func.count(Webhook.id)).where(Webhook.owner == owner)).one()
    if used >= MOST_WEBHOOKS:
        raise QuotaExceeded("webhooks", MOST_WEBHOOKS, used)
    webhook = Webhook(owner=owner, url=url)
    session.add(webhook)
    session.flush()
    return webhook


def find_webhook(session: Session, webhook_id: str, *, lock: bool = False) -> Webhook:
    """Return the webhook of that id, locked until the transaction ends if `lock` is set. Raises: WebhookNotFound."""
    webhook = session.get(Webhook, webhook_id, with_for_update=lock)
    if webhook is None:
        raise WebhookNotFound(f"There is no webhook {webhook_id!r}; `GET /webhooks` lists them.")
    return webhook


def list_webhooks(session: Session, *, after: str | None = None, limit: int = 20) -> Page[Webhook]:
    """Return a page of webhooks, newest first, after the one of that id."""
    return read_page(session, select(Webhook), Webhook.id, after=after, limit=limit)


def remove_webhook(session: Session, webhook_id: str) -> None:
    """Remove the webhook and its messages. Raises: WebhookNotFound."""
    webhook = find_webhook(session, webhook_id, lock=True)
    session.execute(delete(WebhookMessage).where(WebhookMessage.webhook_id == webhook_id))
    session.delete(webhook)


def list_messages(
    session: Session, webhook_id: str, *, after: str | None = None, limit: int = 20
) -> Page[WebhookMessage]:
    """Return a page of the webhook's messages, newest first, after the one of that id. Raises: WebhookNotFound."""
    find_webhook(session, webhook_id)
    query = select(WebhookMessage).where(WebhookMessage.webhook_id == webhook_id)
    return read_page(session, query, WebhookMessage.id, after=after, limit=limit)


def message_state(message: WebhookMessage) -> MessageState:
    """Return the state of that message."""
    if message.delivered_at is not None:
        return MessageState.DELIVERED
    return MessageState.GIVEN_UP if message.due_at is None else MessageState.WAITING


def seconds_until_ping(session: Session, webhook_id: str) -> int:
    """Return in how many seconds the webhook can be pinged.

    0 if the last ping is at least 60 s old and is not waiting for another try. The webhook stays locked, so that of two pings at
    once one waits for the other. Raises: WebhookNotFound.
    """
    find_webhook(session, webhook_id, lock=True)
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
    seconds = math.ceil(
        round(left if wait is None else max(wait, left), 3)
    )  # SQLite's differences are exact to some 0.05 ms
    return max(0 if wait is None else 1, seconds)


def ping(session: Session, webhook_id: str) -> WebhookMessage:
    """Add a message by which a receiver can be tested, and return it. Raises: WebhookNotFound."""
    return _add_messages(session, [find_webhook(session, webhook_id, lock=True)], "ping", {"webhook": webhook_id})[0]


def announce(session: Session, job: Job) -> None:
    """Add a message about the end of the job to all webhooks of its owner."""
    data: dict[str, Any] = {"id": job.id, "object": "job", "kind": job.kind, "status": job.state}
    data |= {"model": job.model_id, "dataset": job.dataset, "metadata": job.metadata_, "error": job.error}
    _announce(session, job.owner, f"job.{job.state}", data)


def announce_fall(session: Session, owner: str, data: Mapping[str, Any]) -> None:
    """Add a message about accuracies that fell significantly to all webhooks of the owner."""
    _announce(session, owner, "audit.fell", data)


def _announce(session: Session, owner: str, kind: str, data: Mapping[str, Any]) -> None:
    active = select(Webhook).where(Webhook.owner == owner, Webhook.disabled_at.is_(None))
    webhooks = session.scalars(active.with_for_update(read=True, key_share=True)).all()
    if webhooks:
        _add_messages(session, webhooks, kind, data)


def _add_messages(
    session: Session, webhooks: Sequence[Webhook], kind: str, data: Mapping[str, Any]
) -> list[WebhookMessage]:
    timestamp = session.scalars(select(now())).one().isoformat()
    body = json.dumps({"type": kind, "timestamp": timestamp, "data": data}, ensure_ascii=False)
    messages = [
        WebhookMessage(webhook_id=webhook.id, owner=webhook.owner, kind=kind, body=body) for webhook in webhooks
    ]
    session.add_all(messages)
    session.flush()
    return messages


def count_waiting(session: Session) -> int:
    """Return the number of messages, of all owners, that wait for their first or next try."""
    return session.scalars(select(func.count(WebhookMessage.id)).where(WebhookMessage.due_at.is_not(None))).one()


def has_due_messages(session: Session) -> bool:
    """Return whether a message is to be sent now."""
    return session.scalar(select(WebhookMessage.id).where(WebhookMessage.due_at <= now()).limit(1)) is not None


def take_due_messages(session: Session) -> list[DueMessage]:
    """Return messages to be sent now; each is sent again after `RETRY_SECONDS` unless `record_response` changes that."""
    due = WebhookMessage.due_at <= now()
    of_owner = func.row_number().over(partition_by=WebhookMessage.owner, order_by=WebhookMessage.due_at)
    ranks = select(WebhookMessage.id, of_owner.label("rank")).where(due).subquery()
    first = select(ranks.c.id).where(ranks.c.rank <= _OF_ONE_OWNER).order_by(ranks.c.rank).limit(_AT_ONCE)
    query = select(WebhookMessage, Webhook.url).join(Webhook).where(WebhookMessage.id.in_(first), due)
    rows = session.execute(query.with_for_update(of=WebhookMessage, skip_locked=True)).all()
    for message, _ in rows:
        message.tries += 1
        has_next_try = message.tries <= len(RETRY_SECONDS)
        message.due_at = now(RETRY_SECONDS[message.tries - 1]) if has_next_try else None
    return [DueMessage(message.id, message.webhook_id, url, message.body) for message, url in rows]


def record_response(session: Session, message_id: str, *, status: int | None = None, error: str | None = None) -> None:
    """Store the result of a try: the HTTP status, or why there was none. 410 Gone disables the webhook."""
    if status == HTTPStatus.GONE:
        webhook_id = select(WebhookMessage.webhook_id).where(WebhookMessage.id == message_id).scalar_subquery()
        webhook = update(Webhook).where(Webhook.id == webhook_id, Webhook.disabled_at.is_(None))
        # The webhook before its message, as in `remove_webhook`: else each could wait for the other.
        session.execute(webhook.values(disabled_at=now()))
        session.execute(update(WebhookMessage).where(WebhookMessage.webhook_id == webhook_id).values(due_at=None))
    message = session.get(WebhookMessage, message_id, with_for_update=True)
    if message is None:  # its webhook was removed
        return
    message.status, message.error = status, error
    if status is not None and 200 <= status < 300:
        message.due_at, message.delivered_at = None, now()


def remove_old_messages(session: Session) -> None:
    """Remove the messages that were made more than `KEEP_SECONDS` ago."""
    session.execute(delete(WebhookMessage).where(WebhookMessage.created_at < now(-KEEP_SECONDS)))
