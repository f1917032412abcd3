"""Both clients against a stand-in for the network: which requests are sent again, and the errors that are raised."""

import hashlib
import json
import sys
from collections.abc import Callable
from typing import Any

import anyio
import httpx
import pytest

from faal_client import AsyncClient, Client, errors, retries
from faal_client.digests import format_digest
from faal_client.progress_display import show_progress
from faal_client.resources.objects import Pending
from faal_client.retries import read_retry_after
from faal_client.vocabulary import JobState
from faal_core.results.audit_comparison import compare_audits
from faal_core.results.reading import StoredAudit
from scripts.write_sync_client import SOURCE, TARGET, make_sync
from tests.sample_reports import sample_outcomes

URL = "http://faal.test"
Handler = Callable[[httpx.Request], httpx.Response]


def refuse(status: int, code: str, retry_after: str | None = None) -> httpx.Response:
    """Return a refusal as the service writes it."""
    problem = {"type": f"/problems/{code}", "title": "A title", "status": status, "code": code, "detail": "A detail."}
    headers = {} if retry_after is None else {"Retry-After": retry_after}
    return httpx.Response(status, json={**problem, "instance": "/", "request_id": "req_1"}, headers=headers)


class Network:
    """Gives the listed answers in turn, and counts the requests."""

    def __init__(self, *answers: httpx.Response) -> None:
        self.answers = list(answers)
        self.requests: list[httpx.Request] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        """Return the next answer; the last one again after all."""
        self.requests.append(request)
        return self.answers[min(len(self.requests), len(self.answers)) - 1]


def ask_sync(network: Handler, method: str, *arguments: Any, **options: Any) -> Any:
    """Call a method of the client for synchronous code."""
    with Client(URL, key="faal_secret") as client:
        client._http._transport = httpx.MockTransport(network)
        return getattr(client, method)(*arguments, **options)


def ask_async(network: Handler, method: str, *arguments: Any, **options: Any) -> Any:
    """Call a method of the client for asynchronous code."""

    async def ask() -> Any:
        async with AsyncClient(URL, key="faal_secret") as client:
            client._http._transport = httpx.MockTransport(network)
            return await getattr(client, method)(*arguments, **options)

    return anyio.run(ask)


both = pytest.mark.parametrize("ask", [ask_sync, ask_async])


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Set the waits after answers without Retry-After to 0, and remove the address and key."""
    monkeypatch.setattr(retries, "RETRY_WAITS", (0.0,))
    for name in ("FAAL_URL", "FAAL_API_KEY"):
        monkeypatch.delenv(name, raising=False)


def test_the_synchronous_client_is_current():
    """faal_client/client.py is what scripts/write_sync_client.py makes of async_client.py; run it after a change."""
    assert TARGET.read_text("utf-8") == make_sync(SOURCE.read_text("utf-8"))


@both
@pytest.mark.parametrize("status", [429, 503])
def test_requests_that_change_nothing_are_sent_again(ask, status):
    """A request is repeated after Retry-After until it is answered."""
    catalog = {name: [] for name in ("architectures", "datasets", "presets", "methods")}
    answer = httpx.Response(200, json={**catalog, "training_defaults": {}, "audit_defaults": {}})
    network = Network(refuse(status, "service-busy", "0"), refuse(status, "service-busy"), answer)
    assert ask(network, "catalog").architectures == []
    assert len(network.requests) == 3
    assert network.requests[0].headers["Authorization"] == "Bearer faal_secret"


@both
def test_retries_are_bounded(ask):
    """After five requests, or if the wait would be long, the refusal is raised."""
    network = Network(refuse(503, "service-busy", "0"))
    with pytest.raises(errors.Unavailable):
        ask(network, "job", "job_1")
    assert len(network.requests) == 5
    network = Network(refuse(429, "rate-exceeded", "3600"))
    with pytest.raises(errors.RateLimited):
        ask(network, "job", "job_1")
    assert len(network.requests) == 1


@both
def test_the_report_of_a_comparison_is_read_by_another_method(ask):
    """Each method names the other one for a report of the other kind."""
    before, after = (StoredAudit(*sample_outcomes(images=20, seed=seed)) for seed in (0, 1))
    for method, other, report in (
        ("report", "comparison", compare_audits(before, after)),
        ("comparison", "report", before.report),
    ):
        network = Network(httpx.Response(200, content=report.model_dump_json()))
        assert ask(network, other, "job_1") == report
        with pytest.raises(ValueError, match=f"job_1 is .*; call `{other}`"):
            ask(network, method, "job_1")


@both
def test_only_repeatable_requests_are_sent_again(ask):
    """A submission is sent again only with an idempotency key; a full quota is no matter of seconds."""
    arguments = "submit_audit", "model_1", "cifar10", {"threat": {"epsilon": "8/255"}}
    for code, key, requests in (
        ("service-busy", None, 1),
        ("service-busy", "once", 5),
        ("quota-exceeded", "once", 1),
    ):
        network = Network(refuse(429, code, "0"))
        with pytest.raises(errors.RateLimited) as raised:
            ask(network, *arguments, idempotency_key=key)
        assert isinstance(raised.value, errors.QuotaExceeded) == (code == "quota-exceeded")
        assert (len(network.requests), raised.value.code) == (requests, code)


@both
@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (400, "malformed-body", errors.InvalidRequest),
        (401, "key-required", errors.Unauthorized),
        (403, "scope-missing", errors.Forbidden),
        (404, "job-not-found", errors.NotFound),
        (409, "model-not-ready", errors.Conflict),
        (409, "job-failed", errors.JobFailed),
        (409, "job-cancelled", errors.JobCancelled),
        (422, "invalid-spec", errors.InvalidRequest),
        (500, "internal-error", errors.ServiceProblem),
    ],
)
def test_errors_have_classes(ask, status, code, kind):
    """The class follows from the code and the status."""
    with pytest.raises(errors.ServiceProblem, match=r"A title: A detail\.") as raised:
        ask(Network(refuse(status, code)), "job", "job_1")
    assert (type(raised.value), raised.value.code) == (kind, code)


@both
def test_answers_of_something_else(ask):
    """An error page of a proxy raises httpx's own error, also where it asks to wait."""
    with pytest.raises(httpx.HTTPStatusError):
        ask(Network(httpx.Response(502, text="<html>bad gateway")), "job", "job_1")
    network = Network(httpx.Response(503, text="<html>busy", headers={"Retry-After": "0"}))
    with pytest.raises(httpx.HTTPStatusError):
        ask(network, "job", "job_1")
    assert len(network.requests) == 5


def test_address_and_key_come_from_the_environment(monkeypatch):
    """FAAL_URL and FAAL_API_KEY are the defaults; an empty key sends none."""
    with pytest.raises(ValueError, match="FAAL_URL"):
        Client()
    monkeypatch.setenv("FAAL_URL", URL)
    monkeypatch.setenv("FAAL_API_KEY", "faal_other")
    for options, expected in (({}, "Bearer faal_other"), ({"key": "faal_1"}, "Bearer faal_1"), ({"key": ""}, None)):
        with Client(**options) as client:
            assert (str(client._http.base_url), client._http.headers.get("Authorization")) == (URL, expected)


def test_retry_after():
    """The header has seconds or a date; anything else counts as absent."""
    values = {"7": 7.0, "-1": 0.0, "nan": None, "inf": None, "soon": None, "Wed, 21 Oct 2015 07:28:00 GMT": 0.0}
    assert {value: read_retry_after(value) for value in values} == values
    assert read_retry_after(None) is None


def test_no_bar_in_pipes(capfd):
    """True shows a bar where somebody watches; a function receives every answer."""
    pending = Pending(job="job_1", status=JobState.RUNNING, stage="clean", progress=None)
    for progress in (True, False):
        with show_progress(progress) as show:
            show(pending)
    assert capfd.readouterr() == ("", "")
    received: list[Pending] = []
    with show_progress(received.append) as show:
        show(pending)
    assert received == [pending]


@pytest.mark.parametrize("missing", [(), ("rich",), ("rich", "tqdm", "tqdm.auto")])
def test_bars_of_rich_and_tqdm(monkeypatch, capfd, missing):
    """A terminal shows a bar of rich, else of tqdm, else nothing."""
    monkeypatch.setattr("faal_client.progress_display._is_watched", lambda: True)
    for name in missing:
        monkeypatch.setitem(sys.modules, name, None)
        for module in ("console", "progress"):
            monkeypatch.setitem(sys.modules, f"{name}.{module}", None)
    pending = Pending(
        job="job_1", status=JobState.RUNNING, stage="clean", progress={"done": 3, "total": 9, "seconds_left": 1}
    )
    with show_progress(True) as show:
        show(pending)
        show(pending.model_copy(update={"stage": "PGD"}))
    assert ("clean" in capfd.readouterr().err) == (missing == ("rich",))


def test_keys_that_no_header_can_hold():
    """Space around a key is removed. Other characters are refused, and the error does not show the key."""
    with Client(URL, key=" faal_1\n") as client:
        assert client._http.headers["Authorization"] == "Bearer faal_1"
    for key in ("faal_\u00e9", "faal_\n1"):
        with pytest.raises(ValueError, match="not printable ASCII") as raised:
            Client(URL, key=key)
        assert "faal_" not in str(raised.value)


@both
@pytest.mark.parametrize("digest", [None, format_digest("00" * 32), format_digest(hashlib.sha256(b"x").hexdigest())])
def test_only_complete_weights_replace_a_file(ask, digest, tmp_path):
    """Damaged weights, and weights without a digest, leave the file as it was."""
    file = tmp_path / "weights.safetensors"
    file.write_bytes(b"old")
    network = Network(httpx.Response(200, content=b"x", headers={} if digest is None else {"Repr-Digest": digest}))
    if digest is None or "AAAA" in digest:
        with pytest.raises(ValueError, match="arrived damaged" if digest else "no Repr-Digest"):
            ask(network, "download_weights", "model_1", file)
        assert file.read_bytes() == b"old"
    else:
        assert ask(network, "download_weights", "model_1", file).read_bytes() == b"x"
    assert list(tmp_path.iterdir()) == [file]


@both
def test_an_upload_succeeds_without_its_deletion(ask, tmp_path, monkeypatch):
    """A connection that breaks after the last request of an upload in parts does not matter."""
    monkeypatch.setattr("faal_client.request_parts.LARGE", 0)
    (tmp_path / "set.zip").write_bytes(b"x")
    data = {"id": "dataset_1", "object": "dataset"}

    def answer(request: httpx.Request) -> httpx.Response:
        if request.method == "DELETE":
            raise httpx.ReadError("broken")
        is_upload = request.url.path.endswith("/uploads")
        return httpx.Response(200, json={"id": "upload_1", "size": 1, "part_bytes": 1} if is_upload else data)

    monkeypatch.setattr("faal_client.resources.objects.DatasetResource.model_validate_json", json.loads)
    assert ask(answer, "upload_dataset", tmp_path / "set.zip") == data


@pytest.mark.parametrize(("failures", "requests"), [((), 1), ((2,), 2), ((2, 3, 4, 5, 6), 6)])
def test_streams_of_events_are_resumed(failures, requests):
    """A stream is resumed until the service cannot be reached five times in a row; the first request is sent once."""
    count = 0

    def answer(request: httpx.Request) -> httpx.Response:
        nonlocal count
        count += 1
        if not failures or count in failures:
            raise httpx.ConnectError("refused")
        return httpx.Response(200, text="") if count == 1 else httpx.Response(204)

    with Client(URL) as client:
        client._http._transport = httpx.MockTransport(answer)
        if len(failures) == 1:
            assert list(client.events("job_1")) == []
            requests = 3
        else:
            with pytest.raises(httpx.ConnectError):
                list(client.events("job_1"))
    assert count == requests
