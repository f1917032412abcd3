"""Messages of webhooks: made with the end of a job or not at all, with one sender at a time, tried until taken or given up."""

import json
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import update

from jobs import control, lifecycle, webhooks
from jobs.clock import now
from jobs.database import Sessions
from jobs.errors import QuotaExceeded, WebhookNotFound
from jobs.states import JobState
from jobs.tables import Job, WebhookMessage
from jobs.webhooks import MessageState
from tests.registered import claimed, job_of, queued_audit, ready_model, swept

URL = "https://example.com/hook"


def added(sessions: Sessions, owner: str = "ann", url: str = URL) -> str:
    """Id of a new webhook."""
    with sessions.begin() as session:
        return webhooks.add(session, owner=owner, url=url).id


def told(sessions: Sessions, webhook_id: str) -> list[WebhookMessage]:
    """Its messages, oldest first."""
    with sessions() as session:
        return webhooks.messages(session, webhook_id, limit=100).data[::-1]


def taken(sessions: Sessions) -> list[str]:
    """Ids of the messages that somebody takes to send them."""
    with sessions.begin() as session:
        return [due.id for due in webhooks.take_due(session)]


def settled(sessions: Sessions, message_id: str, **outcome: object) -> None:
    """Nothing: the try has come to that."""
    with sessions.begin() as session:
        webhooks.settle(session, message_id, **outcome)


def make_due(sessions: Sessions) -> None:
    """The time of every next try has come."""
    with sessions.begin() as session:
        session.execute(update(WebhookMessage).where(WebhookMessage.due_at.is_not(None)).values(due_at=now(-1)))


def test_every_end_is_told(sessions, model_id):
    """Whichever way a job ends, each webhook of its owner is told once what it was and how it ended, and nobody else's is."""
    hooks, other = [added(sessions), added(sessions)], added(sessions, "ben")
    failed, cancelled, withdrawn, expired = (queued_audit(sessions, model_id, metadata={"n": str(n)}) for n in range(4))
    with sessions.begin() as session:
        lifecycle.fail(session, failed, claimed(sessions, failed), code="internal-error", message="Broken.")
    with sessions.begin() as session:
        lifecycle.cancel(session, cancelled, claimed(sessions, cancelled))
    with sessions.begin() as session:
        control.cancel(session, withdrawn)
        session.get_one(Job, expired).deadline = now(-1)
    swept(sessions)
    for hook in hooks:
        bodies = [json.loads(message.body) for message in told(sessions, hook)]
        assert [(body["type"], body["data"]["id"]) for body in bodies] == [
            ("job.failed", failed),
            ("job.cancelled", cancelled),
            ("job.cancelled", withdrawn),
            ("job.failed", expired),
        ]
        assert bodies[0]["data"] == {
            "id": failed,
            "object": "job",
            "kind": "audit",
            "status": "failed",
            "model": model_id,
            "dataset": "fashion-mnist-subset",
            "metadata": {"n": "0"},
            "error": {"code": "internal-error", "message": "Broken."},
        }
    assert told(sessions, other) == []


def test_an_upload_that_was_checked_is_told(sessions):
    """The end of an upload's check is one of a job's."""
    hook = added(sessions)
    ready_model(sessions)
    assert [message.kind for message in told(sessions, hook)] == ["job.succeeded"]


def test_what_did_not_happen_is_not_told(sessions, job_id):
    """An end that was rolled back leaves no message."""
    hook, attempt = added(sessions), claimed(sessions, job_id)
    with sessions.begin() as session:
        lifecycle.succeed(session, job_id, attempt, report="{}")
        session.rollback()
    assert told(sessions, hook) == []


def test_one_sender_at_a_time(sessions):
    """A message that somebody took is nobody else's until the time of its next try."""
    hook = added(sessions)
    with sessions.begin() as session:
        message = webhooks.ping(session, hook).id
    assert taken(sessions) == [message]
    assert taken(sessions) == []
    make_due(sessions)
    assert taken(sessions) == [message]


def test_two_senders_share_what_is_due(sessions):
    """What one sender is about to take, another does not get, nor wait for."""
    if sessions.engine.dialect.name == "sqlite":
        pytest.skip("here one waits for the other")
    hook = added(sessions)
    with sessions.begin() as session:
        messages = {webhooks.ping(session, hook).id for _ in range(3)}
    with sessions.begin() as first, sessions.begin() as second:
        assert {due.id for due in webhooks.take_due(first)} == messages
        assert webhooks.take_due(second) == []


def test_until_it_is_taken_or_given_up(sessions):
    """A message is tried as often as the plan says, then given up; one that was taken is not tried again."""
    hook = added(sessions)
    with sessions.begin() as session:
        stubborn, good = webhooks.ping(session, hook).id, webhooks.ping(session, hook).id
    assert set(taken(sessions)) == {stubborn, good}
    settled(sessions, good, status=204)
    for tries in range(1, len(webhooks.RETRY_SECONDS) + 1):
        settled(sessions, stubborn, status=500)
        row = told(sessions, hook)[0]
        assert (row.tries, row.status, webhooks.state(row)) == (tries, 500, MessageState.WAITING)
        make_due(sessions)
        assert taken(sessions) == [stubborn]
    settled(sessions, stubborn, error="refused")
    make_due(sessions)
    assert taken(sessions) == []
    states = [(webhooks.state(row), row.status, row.error) for row in told(sessions, hook)]
    assert states == [(MessageState.GIVEN_UP, None, "refused"), (MessageState.DELIVERED, 204, None)]


def test_gone_means_gone(sessions, job_id):
    """A receiver that answers 410 gets nothing more, not even what waited; its owner's other webhooks do."""
    gone, stays = added(sessions), added(sessions)
    with sessions.begin() as session:
        first, second = webhooks.ping(session, gone).id, webhooks.ping(session, gone).id
    assert set(taken(sessions)) == {first, second}
    settled(sessions, first, status=410)
    settled(sessions, second, status=500)
    with sessions.begin() as session:
        control.cancel(session, job_id)
    make_due(sessions)
    assert taken(sessions) == [message.id for message in told(sessions, stays)]
    assert len(told(sessions, gone)) == 2
    with sessions() as session:
        assert webhooks.find(session, gone).disabled_at is not None


def test_many_messages_hold_up_nobody(sessions):
    """However many of one owner wait, another's are among the next to be sent."""
    crowded, quiet = added(sessions), added(sessions, "ben")
    with sessions.begin() as session:
        for _ in range(150):
            webhooks.ping(session, crowded)
        last = webhooks.ping(session, quiet).id
    assert last in taken(sessions)


def test_what_is_removed(sessions):
    """A webhook goes with its messages, also one that is on its way; old messages go by themselves."""
    hook, other = added(sessions), added(sessions)
    with sessions.begin() as session:
        sent, _ = webhooks.ping(session, hook).id, webhooks.ping(session, other)
    taken(sessions)
    with sessions.begin() as session:
        webhooks.remove(session, hook)
    settled(sessions, sent, status=200)
    with sessions() as session, pytest.raises(WebhookNotFound):
        webhooks.messages(session, hook)
    with sessions.begin() as session:
        session.execute(update(WebhookMessage).values(created_at=now(1 - webhooks.KEEP_SECONDS)))
        webhooks.forget_old(session)
    assert len(told(sessions, other)) == 1
    with sessions.begin() as session:
        session.execute(update(WebhookMessage).values(created_at=now(-1 - webhooks.KEEP_SECONDS)))
        webhooks.forget_old(session)
    assert told(sessions, other) == []


def test_a_webhook_that_goes_while_a_job_ends(sessions, job_id):
    """Whoever comes first, the job ends and the webhook goes: one waits for the other."""
    hook = added(sessions)

    def remove() -> None:
        with sessions.begin() as session:
            webhooks.remove(session, hook)

    with ThreadPoolExecutor() as beside:
        with sessions.begin() as session:
            control.cancel(session, job_id)
            removal = beside.submit(remove)
            time.sleep(0.3)
            assert not removal.done()
        removal.result(timeout=10)
    assert job_of(sessions, job_id).state is JobState.CANCELLED
    with sessions() as session:
        assert webhooks.webhooks(session).data == []


def test_there_is_a_limit(sessions):
    """An owner has so many webhooks and no more, whatever others have."""
    for _ in range(webhooks.MOST_WEBHOOKS):
        added(sessions)
    with pytest.raises(QuotaExceeded, match="20 webhooks"):
        added(sessions)
    added(sessions, "ben")


def test_a_ping_follows_another_after_a_minute(sessions):
    """A webhook can be pinged at once, then neither while its ping waits nor within a minute of it."""
    hook, other = added(sessions), added(sessions)

    def wait(webhook_id: str) -> int:
        with sessions.begin() as session:
            return webhooks.seconds_until_ping(session, webhook_id)

    def change(message: str, **values: object) -> None:
        with sessions.begin() as session:
            session.execute(update(WebhookMessage).where(WebhookMessage.id == message).values(values))

    assert wait(hook) == 0
    with sessions.begin() as session:
        message = webhooks.ping(session, hook).id
    assert 55 <= wait(hook) <= 60
    change(message, created_at=now(-3000), due_at=now(1800))
    assert 1795 <= wait(hook) <= 1800
    change(message, due_at=now(-5))
    assert wait(hook) == 1
    settled(sessions, message, status=204)
    assert wait(hook) == 0
    change(message, created_at=now(-20))
    assert 35 <= wait(hook) <= 40
    assert wait(other) == 0
    with pytest.raises(WebhookNotFound):
        wait("webhook_0")
