"""Files that come in parts: in any order, twice, broken off and resumed, and what is refused."""

import hashlib
import itertools
import socket
from pathlib import Path

import httpx
import pytest

from api import client as api_client
from api.client import Client
from jobs import partial_uploads
from tests.service.api.conftest import SPEC, UPLOAD_LIMIT, Web
from tests.service.api.test_uploads import digest, weights

PART = partial_uploads.PART_BYTES
FIELDS = {"spec": SPEC.model_dump_json(), "name": "large"}


def begun(web: Web, size: int) -> str:
    """The address of a new upload of so many bytes."""
    answer = web.client.post("/uploads", json={"size": size})
    assert (answer.status_code, answer.json()["parts"], answer.json()["part_bytes"]) == (201, [], PART)
    return answer.headers["Location"]


def parts_of(content: bytes) -> list[bytes]:
    """The parts of that file."""
    return [content[start : start + PART] for start in range(0, len(content), PART)]


def register(web: Web, address: str, path: str = "/models", **fields: str) -> httpx.Response:
    """The answer to a form that names the upload in place of a file."""
    form = {**FIELDS, "upload": address.rsplit("/", 1)[1], **fields}
    return web.client.post(path, files={name: (None, value) for name, value in form.items()})


def test_parts_make_the_file(web: Web) -> None:
    """In whatever order they came, and one of them twice, the file that is registered is the one that was sent; again too."""
    content = weights(2 * PART + 1000)
    address = begun(web, len(content))
    for number in (2, 0, 1, 0):
        part = parts_of(content)[number]
        sent = web.client.put(f"{address}/parts/{number}", content=part, headers={"Content-Digest": digest(part)})
        assert (sent.status_code, sent.content) == (204, b"")
    found = web.client.get(address).json()
    assert [part["sha256"] for part in found["parts"]] == [hashlib.sha256(p).hexdigest() for p in parts_of(content)]
    for _ in range(2):
        answer = register(web, address)
        assert answer.status_code == 202, answer.text
        assert (answer.json()["name"], answer.json()["status"]) == ("large", "validating")
    found = web.client.get(address).json()
    assert (found["parts"], found["sha256"]) == ([], hashlib.sha256(content).hexdigest())
    with web.site.storage.open(found["sha256"]) as file:
        assert file.read() == content


def test_a_cut_upload_goes_on(web: Web) -> None:
    """After a connection that broke in the middle of a part nothing of it is there; the others need not be sent again."""
    content = weights(PART + 1000)
    address, (first, second) = begun(web, len(content)), parts_of(content)
    assert web.client.put(f"{address}/parts/1", content=second).status_code == 204
    head = f"PUT {address}/parts/0 HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(first)}\r\n\r\n".encode()
    with socket.create_connection((web.client.base_url.host, web.client.base_url.port or 80)) as connection:
        connection.sendall(head + first[: PART // 2])
    assert [part["number"] for part in web.client.get(address).json()["parts"]] == [1]
    refused = register(web, address)
    assert (refused.status_code, refused.json()["code"]) == (409, "upload-incomplete")
    assert "missing: 0." in refused.json()["detail"]
    assert web.client.put(f"{address}/parts/0", content=first).status_code == 204
    assert register(web, address).status_code == 202


@pytest.mark.parametrize(
    ("number", "content", "headers", "refused"),
    [
        (0, b"short", {}, (400, "malformed-body")),
        (1, b"x" * 1001, {}, (400, "malformed-body")),
        (1, b"x" * 999, {}, (400, "malformed-body")),
        (1, b"x" * 1000, {"Content-Digest": digest(b"y")}, (400, "digest-mismatch")),
        (2, b"", {}, (422, "invalid-request")),
        (-1, b"", {}, (422, "invalid-request")),
    ],
)
def test_wrong_parts_are_refused(web: Web, number: int, content: bytes, headers: dict, refused: tuple) -> None:
    """A part of another size, another content or a number that there is not is refused and not kept."""
    address = begun(web, PART + 1000)
    answer = web.client.put(f"{address}/parts/{number}", content=content, headers=headers)
    assert (answer.status_code, answer.json()["code"]) == refused
    assert web.client.get(address).json()["parts"] == []


def test_what_was_put_together_is_judged_like_any_file(web: Web) -> None:
    """A file of another kind, a form with unknown fields and an upload that there is not are refused."""
    address = begun(web, 1000)
    assert web.client.put(f"{address}/parts/0", content=b"x" * 1000).status_code == 204
    assert register(web, address).json()["code"] == "unsupported-file"
    assert register(web, address, "/datasets").status_code in (415, 422)
    assert register(web, address, colour="red").json()["code"] in ("invalid-request", "unsupported-file")
    assert register(web, f"/uploads/upload_{32 * '0'}").json()["code"] == "upload-not-found"
    assert web.client.post("/uploads", json={"size": UPLOAD_LIMIT + 1}).json()["code"] == "upload-too-large"


def test_deleted_and_silent_uploads_are_forgotten(web: Web) -> None:
    """Deleted, or silent for too long, an upload is not there any more, nor its parts."""
    deleted, silent = begun(web, 1000), begun(web, 1000)
    for address in (deleted, silent):
        web.client.put(f"{address}/parts/0", content=weights(1000))
    assert web.client.delete(deleted).status_code == 204
    partial_uploads.remove_abandoned(web.site.sessions, 3600)
    assert [web.client.get(address).status_code for address in (deleted, silent)] == [404, 200]
    partial_uploads.remove_abandoned(web.site.sessions, -1)
    assert web.client.get(silent).status_code == 404


def test_the_client_sends_large_files_in_parts(web: Web, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file above its limit arrives whole although connections break under its parts."""
    monkeypatch.setattr(api_client, "LARGE", PART)
    monkeypatch.setattr(api_client, "RETRY_WAITS", (0.0, 0.0))
    file, tries = tmp_path / "weights.safetensors", itertools.count()
    file.write_bytes(weights(2 * PART + 5))
    send = httpx.Client.request

    def breaks(http: httpx.Client, method: str, url: str, **asked: object) -> httpx.Response:
        if method == "PUT" and next(tries) % 2 == 0:
            raise httpx.WriteError("cut")
        return send(http, method, url, **asked)

    monkeypatch.setattr(httpx.Client, "request", breaks)
    with Client(str(web.client.base_url)) as client:
        model = client.upload_model(file, spec=SPEC)
    assert (model.name, next(tries)) == ("weights", 6)
    with web.site.storage.open(hashlib.sha256(file.read_bytes()).hexdigest()) as stored:
        assert stored.read() == file.read_bytes()


def test_no_part_comes_after_the_file_was_put_together(web: Web) -> None:
    """A part that comes too late is refused, since the file that was registered would not have it."""
    content = weights(1000)
    address = begun(web, 1000)
    assert web.client.put(f"{address}/parts/0", content=content).status_code == 204
    assert register(web, address).status_code == 202
    refused = web.client.put(f"{address}/parts/0", content=weights(1000))
    assert (refused.status_code, refused.json()["code"]) == (409, "upload-complete")


def test_a_lost_part_can_be_sent_again(web: Web) -> None:
    """A missing part is reported as `file-lost`; after it was sent again, the upload can be registered."""
    address = begun(web, 1000)
    content = weights(1000)
    assert web.client.put(f"{address}/parts/0", content=content).status_code == 204
    web.site.storage.remove(web.client.get(address).json()["parts"][0]["sha256"])
    assert register(web, address).json()["code"] == "file-lost"
    assert web.client.put(f"{address}/parts/0", content=content).status_code == 204
    assert register(web, address).status_code == 202
    assert register(web, "/uploads/a\0b").json()["errors"][0]["pointer"] == "/upload"
