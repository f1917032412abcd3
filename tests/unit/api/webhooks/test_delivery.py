"""The delivery of a message to real receivers on this machine, with and without TLS, that answer well, badly, slowly or never."""

import json
import ssl
import time
from datetime import UTC, datetime
from pathlib import Path

import anyio
import pytest
import trustme
from standardwebhooks import Webhook as StandardWebhook
from standardwebhooks import WebhookVerificationError

from api.webhooks import delivery
from api.webhooks.delivery import Delivery, sign_message, signing_key, signing_secret
from faal_client.vocabulary import MessageState
from jobs import webhooks
from jobs.database import Sessions
from jobs.keys import site_secret
from jobs.settings import Settings
from jobs.tables import WebhookMessage
from tests.webhook_receiver import run_receiver


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Return settings of a site whose webhooks may stay on this machine."""
    return Settings(data_dir=tmp_path, webhook_networks="127.0.0.0/8")


def send_message(settings: Settings, sessions: Sessions, url: str) -> WebhookMessage:
    """Try once to deliver a message to that address, and return the message."""
    with sessions.begin() as session:
        message = webhooks.ping(session, webhooks.add_webhook(session, owner="ann", url=url).id)
    assert anyio.run(Delivery(settings, sessions)._send_due)
    with sessions() as session:
        return session.get_one(WebhookMessage, message.id)


def test_messages_are_signed(settings, sessions):
    """The message arrives as stored, and the library of Standard Webhooks accepts its signature with the webhook's secret."""
    with run_receiver() as there:
        message = send_message(settings, sessions, there.url)
    assert (webhooks.message_state(message), message.status) == (MessageState.DELIVERED, 204)
    [(headers, body)] = there.requests
    assert (headers["webhook-id"], body.decode()) == (message.id, message.body)
    secret = signing_secret(signing_key(site_secret(settings), message.webhook_id))
    assert StandardWebhook(secret).verify(body, headers) == json.loads(message.body)
    another = signing_secret(signing_key(site_secret(settings), "webhook_0"))
    for key, content in [(another, body), (secret, body + b" ")]:
        with pytest.raises(WebhookVerificationError):
            StandardWebhook(key).verify(content, headers)


def test_the_signature_of_the_standard():
    """A message has the signature that the library of Standard Webhooks would give it."""
    send_time = time.time()
    headers = dict(sign_message(b"k" * 32, "message_1", "{}", send_time))
    library = StandardWebhook(signing_secret(b"k" * 32))
    assert headers["webhook-signature"] == library.sign(
        "message_1", datetime.fromtimestamp(round(send_time), UTC), "{}"
    )


@pytest.mark.parametrize("answer", [301, 307, 400, 429, 500])
def test_other_answers_are_no_delivery(settings, sessions, answer):
    """A message that was refused waits for its next try, and no redirection is followed."""
    with run_receiver([answer]) as there:
        message = send_message(settings, sessions, there.url)
    assert len(there.requests) == 1
    assert (webhooks.message_state(message), message.status, message.tries) == (MessageState.WAITING, answer, 1)


def test_nobody_answers(settings, sessions):
    """If no server listens, the message waits and gives the reason."""
    message = send_message(settings, sessions, "http://127.0.0.1:1/")
    assert (webhooks.message_state(message), message.status) == (MessageState.WAITING, None)
    assert "ConnectError" in message.error


def test_inside_is_out_of_reach(tmp_path, sessions):
    """Without permission no message is sent to this machine, by address or by name, and the error has no address."""
    with run_receiver() as there:
        for host in ("127.0.0.1", "localhost"):
            message = send_message(Settings(data_dir=tmp_path), sessions, f"https://{host}:{there.port}/")
            assert message.error == f"{host} has no address that webhooks are sent to"
    assert there.requests == []


def test_an_answer_that_drips(settings, sessions, monkeypatch):
    """A receiver that never completes its answer does not delay the delivery of other messages."""
    monkeypatch.setattr(delivery, "TRY_SECONDS", 1.0)
    start = time.monotonic()
    with run_receiver(drip_seconds=0.1) as there:
        message = send_message(settings, sessions, there.url)
        assert time.monotonic() - start < 10
    assert message.error == "there was no answer within 1 s"


def test_tls_is_checked(settings, sessions, monkeypatch, tmp_path):
    """A receiver with a trusted certificate of its name gets the message; one with an untrusted certificate does not."""
    authority = trustme.CA()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost").configure_cert(context)
    with run_receiver(tls=context) as there:
        message = send_message(settings, sessions, f"https://localhost:{there.port}/")
        assert "CERTIFICATE_VERIFY_FAILED" in message.error
        assert there.requests == []
        authority.cert_pem.write_to_path(tmp_path / "authority.pem")
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "authority.pem"))
        assert send_message(settings, sessions, f"https://localhost:{there.port}/").status == 204
        assert "mismatch" in send_message(settings, sessions, f"https://127.0.0.1:{there.port}/").error


def test_a_slow_receiver_delays_no_other(settings, sessions, monkeypatch):
    """Messages are sent in parallel."""
    monkeypatch.setattr(delivery, "TRY_SECONDS", 5.0)
    with run_receiver(drip_seconds=0.1) as slow, run_receiver() as quick:
        with sessions.begin() as session:
            for there in (slow, quick):
                webhooks.ping(session, webhooks.add_webhook(session, owner="ann", url=there.url).id)

        async def until_the_quick_one_is_there() -> None:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(Delivery(settings, sessions).run)
                with anyio.fail_after(4):
                    while not quick.requests:  # noqa: ASYNC110 - the receiver runs in a thread
                        await anyio.sleep(0.05)
                tasks.cancel_scope.cancel()

        anyio.run(until_the_quick_one_is_there)
