"""Uploads and downloads of weights as streams."""

import base64
import hashlib
import os
import socket
import struct
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from tests.service.api.conftest import SPEC, UPLOAD_LIMIT
from tests.storage_contents import list_places, read_content

FIELDS = {"spec": SPEC.model_dump_json(), "name": "road signs"}


def weights(size: int = 5000) -> bytes:
    """Return a file of that many random bytes that begins like safetensors."""
    header = b"{}"
    return struct.pack("<Q", len(header)) + header + os.urandom(size - 10)


def digest(content: bytes) -> str:
    """Return the digest field of that content."""
    return f"sha-256=:{base64.b64encode(hashlib.sha256(content).digest()).decode()}:"


def stored_files(web) -> set[str]:
    """Return all files in the site's storage, unfinished ones too."""
    return list_places(web.site.storage)


def form(content: bytes, before: dict[str, str], after: dict[str, str]) -> httpx.Request:
    """Return a multipart body with fields in front of the file and behind it."""
    parts: list[tuple[str, tuple[str | None, str | bytes]]] = [(name, (None, value)) for name, value in before.items()]
    parts += [("file", ("weights.safetensors", content)), *((name, (None, value)) for name, value in after.items())]
    return httpx.Request("POST", "http://site", files=parts)


def post(web, request: httpx.Request, path: str = "/models", **headers: str) -> httpx.Response:
    """Send that body, and return the response."""
    all_headers = {"Content-Type": request.headers["Content-Type"]} | headers
    return web.client.post(path, content=request.read(), headers=all_headers)


SPLIT = {"name": FIELDS["name"]}, {"spec": FIELDS["spec"]}


@pytest.mark.parametrize(("before", "after"), [(FIELDS, {}), ({}, FIELDS), SPLIT])
def test_fields_may_stand_before_or_behind_the_file(web, before, after) -> None:
    """With fields in front of or behind the file, a model is stored as validating, and its file is in storage as sent."""
    content = weights()
    answer = post(web, form(content, before, after))
    assert answer.status_code == 202, answer.text
    model = answer.json()
    assert (model["name"], model["status"], model["spec"]) == ("road signs", "validating", SPEC.model_dump(mode="json"))
    assert web.client.get(answer.headers["Location"]).json() == model
    assert read_content(web.site.storage, hashlib.sha256(content).hexdigest()) == content


def test_data_sets_are_taken_in(web) -> None:
    """A zip file becomes a data set that is being validated; its name is the file's."""
    answer = web.client.post("/datasets", files={"file": ("signs.npz", b"PK\x03\x04" + os.urandom(100))})
    assert answer.status_code == 202
    dataset = answer.json()
    assert (dataset["name"], dataset["status"], dataset["summary"]) == ("signs", "validating", None)
    assert web.client.get(answer.headers["Location"]).json() == dataset
    assert dataset["id"] in {item["id"] for item in web.client.get("/datasets").json()["data"]}


@pytest.mark.parametrize("field", ["Content-Digest", "Repr-Digest"])
def test_digests_are_verified(web, problem, field) -> None:
    """With a right digest, of the whole body or of the file in its part, an upload is stored; with a wrong one, nothing is."""
    content = weights()
    request = form(content, FIELDS, {})
    assert post(web, request, **{field: digest(request.read())}).status_code == 202
    part = {"file": ("w.safetensors", content, "application/octet-stream", {field: digest(content)})}
    assert web.client.post("/models", data=FIELDS, files=part).status_code == 202
    before, content = stored_files(web), weights()
    answer = problem(post(web, form(content, FIELDS, {}), **{field: digest(b"other")}))
    assert (answer["status"], answer["code"]) == (400, "digest-mismatch")
    part = {"file": ("w.safetensors", content, "application/octet-stream", {field: digest(b"other")})}
    assert problem(web.client.post("/models", data=FIELDS, files=part))["code"] == "digest-mismatch"
    assert stored_files(web) == before


@pytest.mark.parametrize(
    ("content", "before", "after", "status", "pointer"),
    [
        (weights(), FIELDS, {"colour": "red"}, 422, "/colour"),
        (weights(), {}, {"spec": "{}"}, 422, "/spec/architecture"),
        (weights(), {}, {}, 422, "/spec"),
        (weights(), FIELDS, FIELDS, 422, "/spec"),
        (weights(), {"file": "by mistake a field"}, FIELDS, 422, "/file"),
        (weights(), {"name": "\x00", "spec": FIELDS["spec"]}, {}, 422, "/name"),
        (b"\x80\x02}q\x00.", FIELDS, {}, 415, None),
        (b"", FIELDS, {}, 415, None),
    ],
)
def test_what_is_refused_leaves_nothing(web, problem, content, before, after, status, pointer) -> None:
    """A form with an error in front of the file, in it or behind it stores no file and no model."""
    files, models = stored_files(web), web.client.get("/models").json()["data"]
    answer = problem(post(web, form(content, before, after)))
    assert answer["status"] == status
    assert pointer is None or answer["errors"][0]["pointer"] == pointer
    assert stored_files(web) == files
    assert web.client.get("/models").json()["data"] == models


def test_an_upload_has_one_file(web, problem) -> None:
    """A form with two files, or with none, is refused."""
    a, b = (("file", (name, weights())) for name in "ab")
    for files, pointer in [
        ([a, b], "/file"),
        ([("other", ("a", weights()))], "/other"),
        ([("colour", (None, "red"))], "/file"),
        ([("file", ("", b""))], "/file"),
    ]:
        answer = problem(web.client.post("/models", data=FIELDS, files=files))
        assert (answer["status"], answer["errors"][0]["pointer"]) == (422, pointer)
    assert problem(web.client.post("/models", json=FIELDS))["code"] == "malformed-body"


def chunks(size: int) -> Iterator[bytes]:
    """Return a form whose file has that many bytes, in pieces and without a stated length."""
    yield b'--x\r\nContent-Disposition: form-data; name="file"; filename="w"\r\n\r\n' + weights(10)
    for _ in range(size // 2**20):
        yield bytes(2**20)
    yield b"\r\n--x--\r\n"


def test_the_limit_stops_an_upload(web, problem) -> None:
    """A file above the limit is refused with 413 although no length was stated, and no part of it is stored."""
    files = stored_files(web)
    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    answer = problem(web.client.post("/models", content=chunks(UPLOAD_LIMIT), headers=headers))
    assert (answer["status"], answer["code"]) == (413, "upload-too-large")
    assert stored_files(web) == files


def head(web, length: int) -> bytes:
    """Return the beginning of an upload that states that many bytes, up to the first byte of its file."""
    start = next(chunks(0))
    address = f"Host: {web.client.base_url.netloc.decode()}\r\nContent-Length: {length}\r\n"
    return f"POST /models HTTP/1.1\r\n{address}Content-Type: multipart/form-data; boundary=x\r\n\r\n".encode() + start


def open_connection(web) -> socket.socket:
    """Return a connection to the service."""
    return socket.create_connection((web.client.base_url.host, web.client.base_url.port), timeout=20)


def test_a_length_above_the_limit_is_refused_at_once(web) -> None:
    """An upload whose stated length is above the limit is refused before its bytes are sent."""
    with open_connection(web) as connection:
        connection.sendall(head(web, 10**12))
        assert connection.recv(4096).startswith(b"HTTP/1.1 413 ")


def being_written(web) -> list[str]:
    """Return the files that the service has open and writes into storage."""
    open_files = [
        str(link.readlink()) for link in Path(f"/proc/{web.process._process.pid}/fd").iterdir() if link.is_symlink()
    ]
    return [path for path in open_files if {"incoming", "spool"} & {*Path(path).parts}]


def test_an_upload_that_breaks_off_leaves_nothing(web) -> None:
    """An upload whose client disconnects midway leaves no file, and the service keeps serving."""
    files = stored_files(web)
    with open_connection(web) as connection:
        connection.sendall(head(web, 2**20) + bytes(2**19))
        deadline = time.monotonic() + 10
        while not being_written(web):
            assert time.monotonic() < deadline
            time.sleep(0.01)
    while being_written(web) or stored_files(web) != files:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert web.client.get("/healthz").is_success


def test_large_files_take_no_memory(web) -> None:
    """The service grows by less than 16 MiB while it stores a file of 60 MiB."""
    status = Path(f"/proc/{web.process._process.pid}/status")

    def peak() -> int:
        return next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith("VmHWM"))

    content = weights(60 * 2**20)
    post(web, form(weights(), FIELDS, {}))
    before = peak()
    part = {"file": ("w.safetensors", content)}
    assert web.client.post("/models", data=FIELDS, files=part).status_code == 202
    assert peak() - before < 16 * 1024


def test_slow_uploads_leave_room_for_others(own_web, problem) -> None:
    """Uploads beyond an owner's limit get 503, other requests are answered, and finished uploads make room again."""
    deadline = time.monotonic() + 30
    with ExitStack() as open_connections:
        for _ in range(15):
            connection = open_connections.enter_context(open_connection(own_web))
            connection.sendall(head(own_web, 2**20) + bytes(100))
        while len(stored_files(own_web)) < 15:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        refusal = problem(own_web.client.post("/models", data=FIELDS, files={"file": ("w", weights())}))
        assert (refusal["status"], refusal["code"]) == (503, "service-busy")
        assert own_web.client.get("/jobs").status_code == 200
    while own_web.client.post("/models", data=FIELDS, files={"file": ("w", weights())}).status_code != 202:
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_an_idempotency_key_makes_one_model(web, problem) -> None:
    """The same upload with one key gets the first model, another file 422."""
    content, headers = weights(), {"Idempotency-Key": f"upload {web.site.settings.database_url}"}
    ids = {post(web, form(content, FIELDS, {}), **headers).json()["id"] for _ in range(2)}
    assert len(ids) == 1
    answer = problem(post(web, form(weights(), FIELDS, {}), **headers))
    assert (answer["status"], answer["code"]) == (422, "idempotency-conflict")


def test_weights_can_be_downloaded(web) -> None:
    """Weights come as they are stored, under the model's name, with their digest; Range gives a part of them."""
    model = web.model("räder & <b>")
    address = f"/models/{model}/weights"
    whole = web.client.get(address)
    content = whole.content
    assert (whole.status_code, whole.headers["Content-Type"]) == (200, "application/vnd.safetensors")
    assert whole.headers["Content-Disposition"] == "attachment; filename*=utf-8''r%C3%A4der%20%26%20%3Cb%3E.safetensors"
    assert whole.headers["Content-Digest"] == whole.headers["Repr-Digest"] == digest(content)
    part = web.client.get(address, headers={"Range": "bytes=2-4"})
    assert (part.status_code, part.content) == (206, content[2:5])
    assert part.headers["Content-Range"] == f"bytes 2-4/{len(content)}"
    assert part.headers["Repr-Digest"] == digest(content)
    parts = web.client.get(address, headers={"Range": "bytes=-3,0-1"})
    assert parts.status_code == 206
    assert content[:2] in parts.content
    assert content[-3:] in parts.content
    assert "Content-Digest" not in part.headers
    assert web.client.get(address, headers={"If-None-Match": whole.headers["ETag"]}).status_code == 304


def test_wrong_ranges(web, problem) -> None:
    """A range behind the end is a problem that states the size; an unreadable range is ignored."""
    address = f"/models/{web.model()}/weights"
    size = len(web.client.get(address).content)
    beyond_end = web.client.get(address, headers={"Range": "bytes=1000-"})
    assert (problem(beyond_end)["status"], beyond_end.headers["Content-Range"]) == (416, f"bytes */{size}")
    for unreadable in ("rows=1-2", "bytes=", "bytes"):
        assert web.client.get(address, headers={"Range": unreadable}).status_code == 200


def test_weights_that_are_not_checked_are_not_given_out(web, problem) -> None:
    """A model that is being validated has no weights to download."""
    model = post(web, form(weights(), FIELDS, {})).json()["id"]
    answer = problem(web.client.get(f"/models/{model}/weights"))
    assert (answer["status"], answer["code"]) == (409, "model-not-ready")
    assert problem(web.client.get("/models/model_0/weights"))["code"] == "model-not-found"


def test_our_own_files_need_no_spec(web, weights_file) -> None:
    """A file that this software wrote needs no spec, since its metadata contain one."""
    with weights_file.open("rb") as file:
        model = web.client.post("/models", files={"file": file}).json()
    assert (model["name"], model["spec"]["num_classes"]) == ("untrained", 3)
