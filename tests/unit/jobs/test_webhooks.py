"""Messages of webhooks: stored with the end of a job or not at all, with one sender at a time, tried until delivered."""

import json
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import update

from faal_client.vocabulary import MessageState
from jobs import control, lifecycle, webhooks
from jobs.clock import now
from jobs.database import Sessions
from jobs.errors import QuotaExceeded, WebhookNotFound
from jobs.states import JobState
from jobs.tables import Job, WebhookMessage
from tests.job_steps import add_ready_model, claim_job, load_job, queue_audit, run_sweep

URL = "https://example.com/hook"


def add_webhook(sessions: Sessions, owner: str = "ann", url: str = URL) -> str:
    """Return the id of a new webhook."""
    with sessions.begin() as session:
        return webhooks.add_webhook(session, owner=owner, url=url).id


def messages_of(sessions: Sessions, webhook_id: str) -> list[WebhookMessage]:
    """Return the webhook's messages, oldest first."""
    with sessions() as session:
        return webhooks.list_messages(session, webhook_id, limit=100).data[::-1]


def take_messages(sessions: Sessions) -> list[str]:
    """Take the messages that must be sent now as a sender does, and return their ids."""
    with sessions.begin() as session:
        return [due.id for due in webhooks.take_due_messages(session)]


def record_response(sessions: Sessions, message_id: str, **outcome: object) -> None:
    """Store the result of a try."""
    with sessions.begin() as session:
        webhooks.record_response(session, message_id, **outcome)


def make_due(sessions: Sessions) -> None:
    """Set the time of every next try to the past."""
    with sessions.begin() as session:
        session.execute(update(WebhookMessage).where(WebhookMessage.due_at.is_not(None)).values(due_at=now(-1)))


def test_every_end_is_told(sessions, model_id):
    """Any end of a job sends its kind and its state once to each webhook of its owner, and to no other webhook."""
    hooks, other = [add_webhook(sessions), add_webhook(sessions)], add_webhook(sessions, "ben")
    failed_job, cancelled_job, cancelled_waiting, expired_job = (
        queue_audit(sessions, model_id, metadata={"n": str(n)}) for n in range(4)
    )
    with sessions.begin() as session:
        lifecycle.fail(session, failed_job, claim_job(sessions, failed_job), code="internal-error", message="Broken.")
    with sessions.begin() as session:
        lifecycle.cancel_running(session, cancelled_job, claim_job(sessions, cancelled_job))
    with sessions.begin() as session:
        control.cancel(session, cancelled_waiting)
        session.get_one(Job, expired_job).deadline = now(-1)
    run_sweep(sessions)
    for hook in hooks:
        bodies = [json.loads(message.body) for message in messages_of(sessions, hook)]
        assert [(body["type"], body["data"]["id"]) for body in bodies] == [
            ("job.failed", failed_job),
            ("job.cancelled", cancelled_job),
            ("job.cancelled", cancelled_waiting),
            ("job.failed", expired_job),
        ]
        assert bodies[0]["data"] == {
            "id": failed_job,
            "object": "job",
            "kind": "audit",
            "status": "failed",
            "model": model_id,
            "dataset": "fashion-mnist-subset",
            "metadata": {"n": "0"},
            "error": {"code": "internal-error", "message": "Broken."},
        }
    assert messages_of(sessions, other) == []


def test_an_upload_that_was_checked_is_told(sessions):
    """The end of an upload's check is announced like that of any job."""
    hook = add_webhook(sessions)
    add_ready_model(sessions)
    assert [message.kind for message in messages_of(sessions, hook)] == ["job.succeeded"]


def test_what_did_not_happen_is_not_told(sessions, job_id):
    """An end that was rolled back leaves no message."""
    hook, attempt = add_webhook(sessions), claim_job(sessions, job_id)
    with sessions.begin() as session:
        lifecycle.succeed(session, job_id, attempt, report="{}")
        session.rollback()
    assert messages_of(sessions, hook) == []


def test_one_sender_at_a_time(sessions):
    """A message that one sender took is taken by no other sender until the time of its next try."""
    hook = add_webhook(sessions)
    with sessions.begin() as session:
        message = webhooks.ping(session, hook).id
    assert take_messages(sessions) == [message]
    assert take_messages(sessions) == []
    make_due(sessions)
    assert take_messages(sessions) == [message]


def test_two_senders_share_what_is_due(sessions):
    """A second sender neither gets the messages that a first one is taking, nor waits for them."""
    if sessions.engine.dialect.name == "sqlite":
        pytest.skip("here one waits for the other")
    hook = add_webhook(sessions)
    with sessions.begin() as session:
        messages = {webhooks.ping(session, hook).id for _ in range(3)}
    with sessions.begin() as first, sessions.begin() as second:
        assert {due.id for due in webhooks.take_due_messages(first)} == messages
        assert webhooks.take_due_messages(second) == []


def test_until_it_is_taken_or_given_up(sessions):
    """A message is tried as often as planned, then dropped; a delivered one is not tried again."""
    hook = add_webhook(sessions)
    with sessions.begin() as session:
        stubborn, good = webhooks.ping(session, hook).id, webhooks.ping(session, hook).id
    assert set(take_messages(sessions)) == {stubborn, good}
    record_response(sessions, good, status=204)
    for tries in range(1, len(webhooks.RETRY_SECONDS) + 1):
        record_response(sessions, stubborn, status=500)
        row = messages_of(sessions, hook)[0]
        assert (row.tries, row.status, webhooks.message_state(row)) == (tries, 500, MessageState.WAITING)
        make_due(sessions)
        assert take_messages(sessions) == [stubborn]
    record_response(sessions, stubborn, error="refused")
    make_due(sessions)
    assert take_messages(sessions) == []
    states = [(webhooks.message_state(row), row.status, row.error) for row in messages_of(sessions, hook)]
    assert states == [(MessageState.GIVEN_UP, None, "refused"), (MessageState.DELIVERED, 204, None)]


def test_gone_means_gone(sessions, job_id):
    """A receiver that answers 410 gets no more messages, not even waiting ones; its owner's other webhooks do."""
    removed, stays = add_webhook(sessions), add_webhook(sessions)
    with sessions.begin() as session:
        first, second = webhooks.ping(session, removed).id, webhooks.ping(session, removed).id
    assert set(take_messages(sessions)) == {first, second}
    record_response(sessions, first, status=410)
    record_response(sessions, second, status=500)
    with sessions.begin() as session:
        control.cancel(session, job_id)
    make_due(sessions)
    assert take_messages(sessions) == [message.id for message in messages_of(sessions, stays)]
    assert len(messages_of(sessions, removed)) == 2
    with sessions() as session:
        assert webhooks.find_webhook(session, removed).disabled_at is not None


def test_many_messages_hold_up_nobody(sessions):
    """However many messages of one owner wait, another owner's are among the next to be sent."""
    busy, quiet = add_webhook(sessions), add_webhook(sessions, "ben")
    with sessions.begin() as session:
        for _ in range(150):
            webhooks.ping(session, busy)
        last = webhooks.ping(session, quiet).id
    assert last in take_messages(sessions)


def test_what_is_removed(sessions):
    """A webhook is removed with its messages, also with one that is being sent; old messages are removed by sweeps."""
    hook, other = add_webhook(sessions), add_webhook(sessions)
    with sessions.begin() as session:
        ping_id, _ = webhooks.ping(session, hook).id, webhooks.ping(session, other)
    take_messages(sessions)
    with sessions.begin() as session:
        webhooks.remove_webhook(session, hook)
    record_response(sessions, ping_id, status=200)
    with sessions() as session, pytest.raises(WebhookNotFound):
        webhooks.list_messages(session, hook)
    with sessions.begin() as session:
        session.execute(update(WebhookMessage).values(created_at=now(1 - webhooks.KEEP_SECONDS)))
        webhooks.remove_old_messages(session)
    assert len(messages_of(sessions, other)) == 1
    with sessions.begin() as session:
        session.execute(update(WebhookMessage).values(created_at=now(-1 - webhooks.KEEP_SECONDS)))
        webhooks.remove_old_messages(session)
    assert messages_of(sessions, other) == []


def test_a_webhook_that_goes_while_a_job_ends(sessions, job_id):
    """In either order, the job ends and the webhook is removed: one transaction waits for the other."""
    hook = add_webhook(sessions)

    def remove() -> None:
        with sessions.begin() as session:
            webhooks.remove_webhook(session, hook)

    with ThreadPoolExecutor() as threads:
        with sessions.begin() as session:
            control.cancel(session, job_id)
            removal = threads.submit(remove)
            time.sleep(0.3)
            assert not removal.done()
        removal.result(timeout=10)
    assert load_job(sessions, job_id).state is JobState.CANCELLED
    with sessions() as session:
        assert webhooks.list_webhooks(session).data == []


def test_there_is_a_limit(sessions):
    """An owner has at most the configured number of webhooks, whatever other owners have."""
    for _ in range(webhooks.MOST_WEBHOOKS):
        add_webhook(sessions)
    with pytest.raises(QuotaExceeded, match="20 webhooks"):
        add_webhook(sessions)
    add_webhook(sessions, "ben")


def test_a_ping_follows_another_after_a_minute(sessions):
    """A webhook can be pinged at once, then neither while its ping waits nor within a minute of it."""
    hook, other = add_webhook(sessions), add_webhook(sessions)

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
    record_response(sessions, message, status=204)
    assert wait(hook) == 0
    change(message, created_at=now(-20))
    assert 35 <= wait(hook) <= 40
    assert wait(other) == 0
    with pytest.raises(WebhookNotFound):
        wait("webhook_0")
