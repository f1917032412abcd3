"""Webhooks over HTTP: from the wish to be told to the message at its receiver."""

from collections.abc import Callable
from typing import Any

import pytest
from standardwebhooks import Webhook as StandardWebhook

from api.schemas.webhooks import Announcement, EndedJob
from tests.service.api.conftest import Web
from tests.service.processes import until
from tests.webhook_receiver import Receiver, run_receiver


def made(web: Web, there: Receiver) -> tuple[str, str]:
    """Id and secret of a new webhook to that receiver."""
    answer = web.client.post("/webhooks", json={"url": there.url})
    assert (answer.status_code, answer.headers["Cache-Control"]) == (201, "no-store"), answer.text
    return answer.json()["about"]["id"], answer.json()["secret"]


def messages(web: Web, webhook: str) -> list[dict[str, Any]]:
    """What it was told, newest first."""
    found: list[dict[str, Any]] = web.client.get(f"/webhooks/{webhook}/messages").json()["data"]
    return found


def test_the_end_of_a_job_is_told(web: Web) -> None:
    """Within seconds of a job's end its owner's webhook gets a signed message, and the service knows that it was taken."""
    job = web.audit(metadata={"ticket": "ML-1"})
    with run_receiver([503]) as there:
        webhook, secret = made(web, there)
        listed = web.client.get("/webhooks").json()["data"]
        assert (listed[0]["id"], listed[0]["url"], listed[0]["disabled_at"]) == (webhook, there.url, None)
        assert secret not in web.client.get("/webhooks").text
        ping = web.client.post(f"/webhooks/{webhook}/ping")
        assert (ping.status_code, ping.json()["status"], ping.json()["type"]) == (202, "waiting", "ping")
        until(lambda: messages(web, webhook)[0]["answer"] == 503, 15, web.site.tell)
        assert (messages(web, webhook)[0]["status"], messages(web, webhook)[0]["tries"]) == ("waiting", 1)
        web.client.post(f"/jobs/{job}/cancel")
        until(lambda: messages(web, webhook)[0]["status"] == "delivered", 15, web.site.tell)
        assert messages(web, webhook)[0] | {"type": "job.cancelled", "answer": 204} == messages(web, webhook)[0]
        headers, body = there.requests[-1]
        told = StandardWebhook(secret).verify(body, headers)
        described = Announcement.model_validate(told)
        assert isinstance(described.data, EndedJob)
        assert (described.type, described.data.id, described.data.metadata) == (
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
    """A wish to be told at an address that is private, or none, is refused where it is made."""
    refused = problem(web.client.post("/webhooks", json={"url": url}))
    assert (refused["status"], refused["code"], refused["errors"][0]["pointer"]) == (422, "invalid-request", "/url")


def test_without_leave_there_is_tls_alone(own_web: Web, problem: Callable[..., dict[str, Any]]) -> None:
    """A service that names no networks sends to no address of this machine, and nothing in the clear."""
    for url in ("https://127.0.0.1/", "http://example.com/"):
        assert problem(own_web.client.post("/webhooks", json={"url": url}))["code"] == "invalid-request"
    assert own_web.client.post("/webhooks", json={"url": "https://localhost/"}).status_code == 201


def test_pings_are_bounded(own_web: Web, problem: Callable[..., dict[str, Any]]) -> None:
    """A second ping is refused with the time to wait; so is a 21st within a minute of an owner that makes new webhooks."""
    client = own_web.client
    for number in range(21):
        webhook = client.post("/webhooks", json={"url": "https://localhost/"}).json()["about"]["id"]
        ping = client.post(f"/webhooks/{webhook}/ping")
        assert ping.status_code == (202 if number < 20 else 429)
        if number == 0:
            again = client.post(f"/webhooks/{webhook}/ping")
            assert 1 <= int(again.headers["Retry-After"]) <= 60
            refused = problem(again)
            assert (refused["status"], refused["code"]) == (429, "rate-exceeded")
            assert refused["limit"] == {"of": "pings", "most": 1, "used": 1}
        client.delete(f"/webhooks/{webhook}")
    assert problem(ping)["limit"] == {"of": "pings", "most": 20, "used": 20}
