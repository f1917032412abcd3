"""Files that are uploaded in parts: in any order, twice, interrupted and resumed, or refused."""

import hashlib
import itertools
import socket
from pathlib import Path

import httpx
import pytest

from faal_client import Client, request_parts, retries
from jobs import partial_uploads
from tests.service.api.conftest import SPEC, UPLOAD_LIMIT, Web
from tests.service.api.test_uploads import digest, weights

PART = partial_uploads.PART_BYTES
FIELDS = {"spec": SPEC.model_dump_json(), "name": "large"}


def start_upload(web: Web, size: int) -> str:
    """Return the address of a new upload of `size` bytes."""
    answer = web.client.post("/uploads", json={"size": size})
    assert (answer.status_code, answer.json()["parts"], answer.json()["part_bytes"]) == (201, [], PART)
    return answer.headers["Location"]


def parts_of(content: bytes) -> list[bytes]:
    """Return the parts of that file."""
    return [content[start : start + PART] for start in range(0, len(content), PART)]


def register(web: Web, address: str, path: str = "/models", **fields: str) -> httpx.Response:
    """Send a form that names the upload in place of a file, and return the response."""
    form = {**FIELDS, "upload": address.rsplit("/", 1)[1], **fields}
    return web.client.post(path, files={name: (None, value) for name, value in form.items()})


def test_parts_make_the_file(web: Web) -> None:
    """Parts that came in any order, one of them twice, form the file that was sent; a second registration gives the same."""
    content = weights(2 * PART + 1000)
    address = start_upload(web, len(content))
    for number in (2, 0, 1, 0):
        part = parts_of(content)[number]
        part_answer = web.client.put(
            f"{address}/parts/{number}", content=part, headers={"Content-Digest": digest(part)}
        )
        assert (part_answer.status_code, part_answer.content) == (204, b"")
    upload = web.client.get(address).json()
    assert [part["sha256"] for part in upload["parts"]] == [hashlib.sha256(p).hexdigest() for p in parts_of(content)]
    for _ in range(2):
        answer = register(web, address)
        assert answer.status_code == 202, answer.text
        assert (answer.json()["name"], answer.json()["status"]) == ("large", "validating")
    upload = web.client.get(address).json()
    assert (upload["parts"], upload["sha256"]) == ([], hashlib.sha256(content).hexdigest())
    with web.site.storage.open(upload["sha256"]) as file:
        assert file.read() == content


def test_a_cut_upload_goes_on(web: Web) -> None:
    """After a connection that broke within a part that part is not stored; the other parts need not be sent again."""
    content = weights(PART + 1000)
    address, (first, second) = start_upload(web, len(content)), parts_of(content)
    assert web.client.put(f"{address}/parts/1", content=second).status_code == 204
    head = f"PUT {address}/parts/0 HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(first)}\r\n\r\n".encode()
    with socket.create_connection((web.client.base_url.host, web.client.base_url.port or 80)) as connection:
        connection.sendall(head + first[: PART // 2])
    assert [part["number"] for part in web.client.get(address).json()["parts"]] == [1]
    refusal = register(web, address)
    assert (refusal.status_code, refusal.json()["code"]) == (409, "upload-incomplete")
    assert "missing: 0." in refusal.json()["detail"]
    assert web.client.put(f"{address}/parts/0", content=first).status_code == 204
    assert register(web, address).status_code == 202


@pytest.mark.parametrize(
    ("number", "content", "headers", "problem_expected"),
    [
        (0, b"short", {}, (400, "malformed-body")),
        (1, b"x" * 1001, {}, (400, "malformed-body")),
        (1, b"x" * 999, {}, (400, "malformed-body")),
        (1, b"x" * 1000, {"Content-Digest": digest(b"y")}, (400, "digest-mismatch")),
        (2, b"", {}, (422, "invalid-request")),
        (-1, b"", {}, (422, "invalid-request")),
    ],
)
def test_wrong_parts_are_refused(web: Web, number: int, content: bytes, headers: dict, problem_expected: tuple) -> None:
    """A part with a wrong size, content or number is refused and not stored."""
    address = start_upload(web, PART + 1000)
    answer = web.client.put(f"{address}/parts/{number}", content=content, headers=headers)
    assert (answer.status_code, answer.json()["code"]) == problem_expected
    assert web.client.get(address).json()["parts"] == []


def test_what_was_put_together_is_judged_like_any_file(web: Web) -> None:
    """A file of another kind, a form with unknown fields and an unknown upload are refused."""
    address = start_upload(web, 1000)
    assert web.client.put(f"{address}/parts/0", content=b"x" * 1000).status_code == 204
    assert register(web, address).json()["code"] == "unsupported-file"
    assert register(web, address, "/datasets").status_code in (415, 422)
    assert register(web, address, colour="red").json()["code"] in ("invalid-request", "unsupported-file")
    assert register(web, f"/uploads/upload_{32 * '0'}").json()["code"] == "upload-not-found"
    assert web.client.post("/uploads", json={"size": UPLOAD_LIMIT + 1}).json()["code"] == "upload-too-large"


def test_deleted_and_silent_uploads_are_forgotten(web: Web) -> None:
    """An upload that was deleted, or was silent for too long, no longer exists, nor do its parts."""
    removed_upload, silent_upload = start_upload(web, 1000), start_upload(web, 1000)
    for address in (removed_upload, silent_upload):
        web.client.put(f"{address}/parts/0", content=weights(1000))
    assert web.client.delete(removed_upload).status_code == 204
    partial_uploads.remove_abandoned(web.site.sessions, 3600)
    assert [web.client.get(address).status_code for address in (removed_upload, silent_upload)] == [404, 200]
    partial_uploads.remove_abandoned(web.site.sessions, -1)
    assert web.client.get(silent_upload).status_code == 404


def test_the_client_sends_large_files_in_parts(web: Web, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file above the client's limit arrives whole although connections break during its parts."""
    monkeypatch.setattr(request_parts, "LARGE", PART)
    monkeypatch.setattr(retries, "RETRY_WAITS", (0.0,))
    file, tries = tmp_path / "weights.safetensors", itertools.count()
    file.write_bytes(weights(2 * PART + 5))
    send = httpx.Client.request

    def breaks(http: httpx.Client, method: str, url: str, **options: object) -> httpx.Response:
        if method == "PUT" and next(tries) % 2 == 0:
            raise httpx.WriteError("cut")
        return send(http, method, url, **options)

    monkeypatch.setattr(httpx.Client, "request", breaks)
    with Client(str(web.client.base_url)) as client:
        model = client.upload_model(file, spec=SPEC)
    assert (model.name, next(tries)) == ("weights", 6)
    with web.site.storage.open(hashlib.sha256(file.read_bytes()).hexdigest()) as content:
        assert content.read() == file.read_bytes()


def test_no_part_comes_after_the_file_was_put_together(web: Web) -> None:
    """A part that arrives after the file was registered is refused, since the file would not contain it."""
    content = weights(1000)
    address = start_upload(web, 1000)
    assert web.client.put(f"{address}/parts/0", content=content).status_code == 204
    assert register(web, address).status_code == 202
    refusal = web.client.put(f"{address}/parts/0", content=weights(1000))
    assert (refusal.status_code, refusal.json()["code"]) == (409, "upload-complete")


def test_a_lost_part_can_be_sent_again(web: Web) -> None:
    """A missing part is reported as `file-lost`; after it was sent again, the upload can be registered."""
    address = start_upload(web, 1000)
    content = weights(1000)
    assert web.client.put(f"{address}/parts/0", content=content).status_code == 204
    web.site.storage.remove(web.client.get(address).json()["parts"][0]["sha256"])
    assert register(web, address).json()["code"] == "file-lost"
    assert web.client.put(f"{address}/parts/0", content=content).status_code == 204
    assert register(web, address).status_code == 202
    assert register(web, "/uploads/a\0b").json()["errors"][0]["pointer"] == "/upload"
