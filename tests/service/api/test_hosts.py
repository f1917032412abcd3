"""The host names of the service: a page of another site gets no data when that site's name resolves to the service."""

import socket
from collections.abc import Iterator
from http.client import HTTPResponse

import httpx
import pytest

from faal_client.vocabulary import Scope
from tests.service.api.conftest import Web
from tests.service.api.test_access import ROUTES
from tests.service.processes import Site

LISTED = "faal.example"
FOREIGN = {"Host": "rebound.example:8000", "Origin": "http://rebound.example:8000"}
WITHOUT_A_KEY = [("GET", "/login"), ("POST", "/login"), ("POST", "/logout"), ("GET", "/shared/{token}")]


@pytest.fixture
def open_web(tmp_path) -> Iterator[Web]:
    """Yield a service without keys that may listen everywhere, with a name of its own."""
    site = Site(tmp_path, open=True, hosts=LISTED)
    try:
        yield Web(site, *site.api())
    finally:
        site.close()


def test_foreign_names_get_nothing(open_web, problem) -> None:
    """Without keys every route for an owner's data, signing in or shared reports refuses a foreign host name, in any request."""
    client, job = open_web.client, open_web.audit()
    for method, path in ROUTES + WITHOUT_A_KEY:
        address = path.format(id=job, job=job, number=0, link="link_0", token="faal_link_0")
        answer = client.request(method, address, headers=FOREIGN)
        assert answer.status_code == 421, (method, path)
        assert "FAAL_HOSTS" in answer.text
        assert job not in answer.text.replace(address, "")
    for header in (
        {"X-Forwarded-Host": "localhost"},
        {"Forwarded": "host=localhost"},
        {"Cookie": "faal_session=x.y.z"},
    ):
        assert problem(client.get("/jobs", headers=FOREIGN | header))["code"] == "unknown-host"
    assert open_web.site.job(job).state == "queued"
    assert client.get("/healthz", headers=FOREIGN).status_code == 200
    for name in (LISTED, "localhost", "192.0.2.7:80"):
        assert client.get("/jobs", headers={"Host": name}).json()["data"][0]["id"] == job


def test_a_name_in_the_address_is_no_way_around(open_web) -> None:
    """A request line with an absolute address, of whatever host, gets no data."""
    for line, host in (("http://rebound.example/jobs", "localhost"), ("http://localhost/jobs", "rebound.example")):
        with socket.create_connection(("127.0.0.1", open_web.site.settings.port), timeout=30) as connection:
            connection.sendall(f"GET {line} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
            answer = HTTPResponse(connection)
            answer.begin()
            assert answer.status in (404, 421)
            assert b'"data"' not in answer.read()


def test_keys_make_names_free(open_web) -> None:
    """Once keys exist any name is answered; a foreign page has no key and cannot use this service's session."""
    client = open_web.client
    key = open_web.key("ann", Scope.READ, Scope.SUBMIT)
    assert client.get("/jobs", headers={"Host": FOREIGN["Host"]}).json()["code"] == "key-required"
    assert client.get("/jobs", headers=key | {"Host": FOREIGN["Host"]}).status_code == 200
    with httpx.Client(base_url=client.base_url) as browser:
        assert browser.post("/login", data={"key": key["Authorization"].split()[1]}).status_code == 303
        assert browser.get("/jobs").status_code == 200
        for origin in ("http://rebound.example", "null"):
            refusal = browser.post("/ui/jobs", data={}, headers={"Origin": origin})
            assert (refusal.status_code, refusal.json()["code"]) == (403, "cross-site-request")
