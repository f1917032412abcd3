"""Refused, replaced, cancelled and deleted files leave the storage: each test lists all files in it."""

import io
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from tests.service.processes import JOB_SECONDS, Site, wait_until
from tests.service.small_jobs import noise
from tests.storage_contents import read_contents

QUOTA = 300_000
SMALL, OTHER = (b"PK\x03\x04" + sign * 45_000 for sign in (b"a", b"b"))


def archive(size: int) -> bytes:
    """Return a zip file of about that size that is no data set."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as file:
        file.writestr("cat/1.png", bytes(size))
    return content.getvalue()


@pytest.fixture
def owner(request: pytest.FixtureRequest, open_site: Callable[..., Site]) -> Iterator[tuple[Site, httpx.Client]]:
    """Return a site with a quota, on files or on servers, and a client of its web service."""
    servers = {} if request.param == "sqlite and folder" else request.getfixturevalue("servers")
    site = open_site(quota_bytes=QUOTA, **servers)
    _, client = site.api()
    yield site, client
    site.close()


on_both = pytest.mark.parametrize("owner", ["sqlite and folder", "postgresql, redis and s3"], indirect=True)


def sizes(site: Site) -> list[int]:
    """Return the sizes of all files in storage, referenced or not."""
    return sorted(map(len, read_contents(site.storage)))


def send(client: httpx.Client, content: bytes, key: str | None = None, **headers: str) -> httpx.Response:
    """Upload that content as a data set."""
    all_headers = headers if key is None else {**headers, "Idempotency-Key": key}
    return client.post("/datasets", files={"file": ("a.zip", content)}, headers=all_headers)


@on_both
def test_what_is_refused_is_not_kept(owner: tuple[Site, httpx.Client]) -> None:
    """Uploads that are refused for a used key, a digest, a form or the quota leave the storage unchanged."""
    site, client = owner
    assert send(client, SMALL, "mine").status_code == 202
    before = sizes(site)
    assert before == [len(SMALL)]
    wrong = {"Content-Digest": "sha-256=:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=:"}
    statuses = {
        "another content": lambda: send(client, OTHER, "mine"),
        "another and larger content": lambda: send(client, OTHER * 10, "mine"),
        "a wrong digest": lambda: send(client, OTHER, **wrong),
        "an unknown field": lambda: client.post("/datasets", files={"file": ("a.zip", OTHER), "x": (None, "y")}),
        "more than the quota": lambda: send(client, SMALL * 7),
    }
    for name, act in statuses.items():
        assert act().is_client_error, name
        assert sizes(site) == before, name
    assert send(client, SMALL, "mine").status_code == 202
    assert sizes(site) == before


@on_both
def test_of_uploads_at_the_same_moment_the_quota_keeps_what_fits(owner: tuple[Site, httpx.Client]) -> None:
    """Of ten simultaneous uploads, each of two thirds of the quota, one is kept; of ten under one key, the first."""
    site, client = owner
    with ThreadPoolExecutor(10) as threads:
        large = [b"PK\x03\x04" + bytes([number]) * 200_000 for number in range(10)]
        answers = list(threads.map(lambda content: send(client, content), large))
    assert sorted({answer.status_code for answer in answers}) in ([202, 429], [202, 429, 503]), answers
    assert [answer.status_code for answer in answers].count(202) == 1
    assert sizes(site) == [200_004]
    with ThreadPoolExecutor(10) as threads:
        small = [b"PK\x03\x04" + bytes([number]) * 500 for number in range(10)]
        answers = list(threads.map(lambda content: send(client, content, "one"), small))
    assert [answer.status_code for answer in answers].count(202) == 1
    assert sizes(site) == [504, 200_004]


@on_both
def test_what_is_replaced_or_put_together_is_not_kept(owner: tuple[Site, httpx.Client]) -> None:
    """The last copy of a repeated part is kept, the whole file of assembled parts, and nothing of a deleted upload."""
    site, client = owner
    upload = client.post("/uploads", json={"size": len(SMALL)}).headers["Location"]
    for content in (SMALL, OTHER, SMALL, OTHER):
        assert client.put(f"{upload}/parts/0", content=content).status_code == 204
        assert sizes(site) == [len(SMALL)]
    assert client.put(f"{upload}/parts/1", content=OTHER).is_client_error
    form_fields = {"upload": (None, upload.rsplit("/", 1)[1])}
    dataset = client.post("/datasets", files=form_fields).headers["Location"]
    assert read_contents(site.storage) == [OTHER]
    assert client.put(f"{upload}/parts/0", content=SMALL).status_code == 409
    assert read_contents(site.storage) == [OTHER]
    assert client.delete(upload).status_code == 204
    assert read_contents(site.storage) == [OTHER]
    check = client.get("/jobs").json()["data"][0]["id"]
    assert client.post(f"/jobs/{check}/cancel").json()["status"] == "cancelled"
    assert client.get(dataset).json()["status"] == "rejected"
    assert read_contents(site.storage) == []
    half = client.post("/uploads", json={"size": 2 * len(SMALL)}).headers["Location"]
    client.put(f"{half}/parts/0", content=SMALL * 2)
    assert client.delete(half).status_code == 204
    assert read_contents(site.storage) == []


@pytest.mark.parametrize("owner", ["postgresql, redis and s3"], indirect=True)
def test_what_ends_unused_is_not_kept(owner: tuple[Site, httpx.Client]) -> None:
    """A file is deleted with a rejection, with the cancellation of a running check, and with the deletion of a data set."""
    site, client = owner
    site.worker()

    def status(address: str, *ends: str) -> str:
        wait_until(lambda: client.get(address).json()["status"] in ends, JOB_SECONDS, site.tell)
        return client.get(address).json()["status"]

    rejected_upload = send(client, archive(100)).headers["Location"]
    assert status(rejected_upload, "ready", "rejected") == "rejected"
    wait_until(lambda: read_contents(site.storage) == [], 5, site.tell)
    cancelled_upload = send(client, archive(200)).headers["Location"]
    check = client.get("/jobs").json()["data"][0]["id"]
    status(f"/jobs/{check}", "running", "failed")
    client.post(f"/jobs/{check}/cancel")
    assert status(cancelled_upload, "ready", "rejected") == "rejected"
    wait_until(lambda: read_contents(site.storage) == [], 5, site.tell)
    used_upload = client.post("/datasets", files={"file": ("n.npz", noise())}).headers["Location"]
    assert status(used_upload, "ready", "rejected") == "ready"
    assert read_contents(site.storage) == [noise()]
    client.delete(used_upload)
    wait_until(lambda: read_contents(site.storage) == [], 5, site.tell)
