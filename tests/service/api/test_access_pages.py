"""The pages of keys and webhooks: what they list, create and revoke, and that a secret is shown once."""

import re
from collections.abc import Iterator
from html import unescape

import httpx
import pytest

from faal_client.vocabulary import Scope
from tests.service.api.conftest import Web, serve
from tests.service.api.test_pages import HOSTILE, SHOWN, Elements


@pytest.fixture(scope="module")
def keyed_web(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Web]:
    """Yield a service on SQLite, for tests that create keys."""
    yield from serve(tmp_path_factory.mktemp("keyed"), {})


def read_secret(page: httpx.Response) -> str:
    """Return the secret that the page shows."""
    found = re.search(r'readonly autofocus spellcheck="false" value="([^"]+)"', page.text)
    assert found, page.text
    assert page.headers["Cache-Control"] == "no-store"
    return unescape(found[1])


def test_an_administrator_manages_keys_on_a_page(keyed_web) -> None:
    """A key that the form creates is shown once and works with its scopes; the button beside it revokes it."""
    client, admin = keyed_web.client, keyed_web.key("root", *Scope)
    form = {"owner": "dora", "name": HOSTILE, "scopes": ["read", "metrics"], "days": "", "max_priority": "3"}
    page = client.post("/ui/keys", data=form, headers=admin)
    key = read_secret(page)
    assert client.get("/jobs", headers={"Authorization": f"Bearer {key}"}).status_code == 200
    assert client.post("/uploads", headers={"Authorization": f"Bearer {key}"}, json={"size": 1}).status_code == 403
    listed = client.get("/ui/keys", headers=admin)
    for shown in (page, listed):
        assert SHOWN in shown.text
        assert not [tag for tag, _ in Elements(shown).elements if tag == "img"]
    assert key not in listed.text
    row = listed.text[listed.text.index(SHOWN) :].partition("</tr>")[0]
    assert ("metrics, read" in row, "priority up to 3" in row, "until it is revoked" in row) == (True, True, True)
    address = re.search(r'action="(/ui/keys/key_\w+/revoke)"', row)
    assert address
    assert client.post(address[1], headers=admin).headers["Location"] == "/ui/keys"
    assert client.get("/jobs", headers={"Authorization": f"Bearer {key}"}).status_code == 401
    row = (page := client.get("/ui/keys", headers=admin).text)[page.index(SHOWN) :].partition("</tr>")[0]
    assert ("revoked</span>" in row, address[1] in row) == (True, False)


def test_keys_are_in_the_navigation_of_administrators_only(keyed_web) -> None:
    """The link to the page of keys is shown to holders of a key with the scope `admin`."""
    for scopes, shown in ((list(Scope), True), ([Scope.READ], False)):
        page = keyed_web.client.get("/", headers=keyed_web.key("root", *scopes)).text
        assert ('href="/ui/keys"' in page) is shown
        assert '<a href="/guide/">Guide</a>' in page


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"owner": "a b"}, "owner"),
        ({"name": ""}, "name"),
        ({"scopes": []}, "scopes"),
        ({"scopes": ["all"]}, "scopes"),
        ({"days": "0"}, "days"),
        ({"days": "many"}, "days"),
        ({"max_priority": "11"}, "max_priority"),
    ],
)
def test_a_wrong_key_form_names_its_field(keyed_web, change: dict[str, object], field: str) -> None:
    """A form that is refused is shown again with its values, and the message is beside the wrong field."""
    admin = keyed_web.key("root", *Scope)
    form = {"owner": "dora", "name": "pipeline", "scopes": ["read"]} | change
    page = keyed_web.client.post("/ui/keys", data=form, headers=admin)
    assert page.status_code == 422
    assert f'<small id="{field}-error" class="bad">' in page.text
    assert f'<a href="#{field}">' in page.text
    assert f'value="{form["owner"]}"' in page.text
    assert ('value="read" checked' in page.text) is ("read" in form["scopes"]) or field == "scopes"


def test_webhooks_are_managed_on_a_page(web) -> None:
    """The form adds a webhook and shows its secret once; the page lists its messages, pings it and deletes it."""
    page = web.client.post("/ui/webhooks", data={"url": " http://127.0.0.1:9/<hook> "})
    secret = read_secret(page)
    assert secret.startswith("whsec_")
    hook = web.client.get("/webhooks").json()["data"][0]
    assert web.client.post(f"/ui/webhooks/{hook['id']}/ping").headers["Location"] == "/ui/webhooks"
    listed = web.client.get("/ui/webhooks").text
    assert secret not in listed
    assert "%3Chook%3E" in listed
    assert "ping: " in listed
    again = web.client.post(f"/ui/webhooks/{hook['id']}/ping")
    assert (again.status_code, "pinged within the last minute" in again.text) == (429, True)
    assert web.client.post(f"/ui/webhooks/{hook['id']}/delete").status_code == 303
    assert f"/ui/webhooks/{hook['id']}/ping" not in web.client.get("/ui/webhooks").text


@pytest.mark.parametrize("url", ["", "no address", "ftp://example.com/", "https://10.0.0.1/"])
def test_a_wrong_address_of_a_webhook_is_named(web, url: str) -> None:
    """An address that the service does not call is refused beside its field."""
    page = web.client.post("/ui/webhooks", data={"url": url})
    assert page.status_code == 422
    assert '<small id="url-error" class="bad">' in page.text
