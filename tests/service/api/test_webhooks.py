"""Webhooks over HTTP: from the registration to the message at the receiver."""

from collections.abc import Callable
from typing import Any

import pytest
from standardwebhooks import Webhook as StandardWebhook

from faal_client.resources.webhooks import Announcement, EndedJob
from tests.service.api.conftest import Web
from tests.service.processes import wait_until
from tests.webhook_receiver import Receiver, run_receiver


def register_webhook(web: Web, there: Receiver) -> tuple[str, str]:
    """Register a new webhook for that receiver, and return its id and secret."""
    answer = web.client.post("/webhooks", json={"url": there.url})
    assert (answer.status_code, answer.headers["Cache-Control"]) == (201, "no-store"), answer.text
    return answer.json()["about"]["id"], answer.json()["secret"]


def messages(web: Web, webhook: str) -> list[dict[str, Any]]:
    """Return the messages of the webhook, newest first."""
    rows: list[dict[str, Any]] = web.client.get(f"/webhooks/{webhook}/messages").json()["data"]
    return rows


def test_the_end_of_a_job_is_told(web: Web) -> None:
    """Within seconds of a job's end its owner's webhook gets a signed message, and the service records the delivery."""
    job = web.audit(metadata={"ticket": "ML-1"})
    with run_receiver([503]) as there:
        webhook, secret = register_webhook(web, there)
        webhooks = web.client.get("/webhooks").json()["data"]
        assert (webhooks[0]["id"], webhooks[0]["url"], webhooks[0]["disabled_at"]) == (webhook, there.url, None)
        assert secret not in web.client.get("/webhooks").text
        ping = web.client.post(f"/webhooks/{webhook}/ping")
        assert (ping.status_code, ping.json()["status"], ping.json()["type"]) == (202, "waiting", "ping")
        wait_until(lambda: messages(web, webhook)[0]["answer"] == 503, 15, web.site.tell)
        assert (messages(web, webhook)[0]["status"], messages(web, webhook)[0]["tries"]) == ("waiting", 1)
        web.client.post(f"/jobs/{job}/cancel")
        wait_until(lambda: messages(web, webhook)[0]["status"] == "delivered", 15, web.site.tell)
        assert messages(web, webhook)[0] | {"type": "job.cancelled", "answer": 204} == messages(web, webhook)[0]
        headers, body = there.requests[-1]
        event = StandardWebhook(secret).verify(body, headers)
        announcement = Announcement.model_validate(event)
        assert isinstance(announcement.data, EndedJob)
        assert (announcement.type, announcement.data.id, announcement.data.metadata) == (
            "job.cancelled",
            job,
            {"ticket": "ML-1"},
        )
        assert web.client.delete(f"/webhooks/{webhook}").status_code == 204
    assert len(there.requests) == 2
    assert web.client.get(f"/webhooks/{webhook}/messages").json()["code"] == "webhook-not-found"


@pytest.mark.parametrize(
    "url",
    [
        "https://10.0.0.1/",
        "https://[::ffff:169.254.169.254]/",
        "https://2130706434/",
        "https://ann:pass@example.com/",
        "ftp://example.com/",
        "//example.com",
        "https://",
        "https://example.com/" + "a" * 2000,
        "https://example.com\r\nHost: x/",
    ],
)
def test_addresses_that_are_refused(web: Web, problem: Callable[..., dict[str, Any]], url: str) -> None:
    """A webhook at a private or invalid address is refused when it is registered."""
    refusal = problem(web.client.post("/webhooks", json={"url": url}))
    assert (refusal["status"], refusal["code"], refusal["errors"][0]["pointer"]) == (422, "invalid-request", "/url")


def test_without_leave_there_is_tls_alone(own_web: Web, problem: Callable[..., dict[str, Any]]) -> None:
    """A service without permitted networks sends nothing to this machine, and nothing without TLS."""
    for url in ("https://127.0.0.1/", "http://example.com/"):
        assert problem(own_web.client.post("/webhooks", json={"url": url}))["code"] == "invalid-request"
    assert own_web.client.post("/webhooks", json={"url": "https://localhost/"}).status_code == 201


def test_pings_are_bounded(own_web: Web, problem: Callable[..., dict[str, Any]]) -> None:
    """A second ping gets the time to wait; so does a 21st within a minute, of an owner that registers new webhooks."""
    client = own_web.client
    for number in range(21):
        webhook = client.post("/webhooks", json={"url": "https://localhost/"}).json()["about"]["id"]
        ping = client.post(f"/webhooks/{webhook}/ping")
        assert ping.status_code == (202 if number < 20 else 429)
        if number == 0:
            again = client.post(f"/webhooks/{webhook}/ping")
            assert 1 <= int(again.headers["Retry-After"]) <= 60
            refusal = problem(again)
            assert (refusal["status"], refusal["code"]) == (429, "rate-exceeded")
            assert refusal["limit"] == {"of": "pings", "most": 1, "used": 1}
        client.delete(f"/webhooks/{webhook}")
    assert problem(ping)["limit"] == {"of": "pings", "most": 20, "used": 20}
