"""Stored files that a disk or a store has changed or lost: no result is computed from them, and a new upload restores them."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

from jobs.states import JobState
from tests.service.processes import JOB_SECONDS, Site, files_first, servers_first, wait_until
from tests.service.small_jobs import AUDIT, SPEC, noise
from tests.storage_contents import overwrite, read_content


def wait_for_check(client: httpx.Client, route: str, content: bytes, **fields: str) -> dict[str, Any]:
    """Return the upload after its check."""
    location = client.post(route, files={"file": content}, data=fields).headers["Location"]
    wait_until(lambda: client.get(location).json()["status"] != "validating", JOB_SECONDS)
    return client.get(location).json()


def check_storage(site: Site) -> tuple[int, list[dict[str, Any]]]:
    """Return the exit status of `faal-service check`, and the files it lists."""
    done = subprocess.run(
        [sys.executable, "-c", "import sys; from api.commands import main; sys.exit(main())", "check"],
        env=site.environment,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, [json.loads(line) for line in done.stdout.splitlines()]


@servers_first
@pytest.mark.parametrize("kind", ["one bit", pytest.param("missing", marks=pytest.mark.slow)])
def test_a_lost_file_ends_jobs_and_downloads_until_it_is_sent_again(site: Site, weights_file: Path, kind: str) -> None:
    """An audit fails as `file-lost`, a download is 410, readiness and the check name the file; the same upload restores all."""
    _, client = site.api()
    site.worker()
    upload = weights_file.read_bytes()
    model = wait_for_check(client, "/models", upload, spec=SPEC.model_dump_json())
    dataset = wait_for_check(client, "/datasets", noise())
    whole = read_content(site.storage, model["file_sha256"])
    damaged_content = bytearray(whole)
    damaged_content[-1] ^= 1
    if kind == "missing":
        site.storage.remove(model["file_sha256"])
    else:
        overwrite(site.storage, whole, bytes(damaged_content))

    job_id = client.post("/jobs/audit", json={"model": model["id"], "dataset": dataset["id"], **AUDIT}).json()["id"]
    job = site.wait_until_ended(job_id)
    assert (job.state, (job.error or {}).get("code")) == (JobState.FAILED, "file-lost"), site.tell()
    for headers in ({}, {"Range": "bytes=0-9"}):
        refusal = client.get(f"/models/{model['id']}/weights", headers=headers)
        assert (refusal.status_code, refusal.json()["code"]) == (410, "file-lost")
        assert str(site.settings.data_dir) not in refusal.text
    assert client.get("/readyz").json() == {"status": "ready", "lost_files": 1}
    fault = {"sha256": model["file_sha256"], "damaged": kind != "missing", "named_by": [model["id"]]}
    assert check_storage(site) == (1, [fault])

    again = wait_for_check(client, "/models", upload, spec=SPEC.model_dump_json())
    assert again["status"] == "ready"
    assert client.get(f"/models/{model['id']}/weights").content == whole
    assert client.get("/readyz").json() == {"status": "ready"}
    assert check_storage(site) == (0, [])


@files_first
def test_a_damaged_data_set_is_not_read(site: Site, weights_file: Path) -> None:
    """An audit of images of which one bit has changed fails as `file-lost`."""
    _, client = site.api()
    site.worker()
    model = wait_for_check(client, "/models", weights_file.read_bytes(), spec=SPEC.model_dump_json())
    dataset = wait_for_check(client, "/datasets", noise())
    images = bytearray(noise())
    images[len(images) // 2] ^= 1
    overwrite(site.storage, noise(), bytes(images))
    job = site.wait_until_ended(
        client.post("/jobs/audit", json={"model": model["id"], "dataset": dataset["id"], **AUDIT}).json()["id"]
    )
    assert (job.error or {}).get("code") == "file-lost", site.tell()


def test_a_damaged_part_can_be_sent_again(site: Site) -> None:
    """A part that changed in storage makes no file; the upload reports it, and is complete after that part was sent again."""
    _, client = site.api()
    content = noise()
    upload = client.post("/uploads", json={"size": len(content)}).json()["id"]
    part = f"/uploads/{upload}/parts/0"
    assert client.put(part, content=content).is_success
    overwrite(site.storage, content, content[:-1] + b"?")
    refusal = client.post("/datasets", files={"upload": (None, upload), "name": (None, "noise")})
    assert (refusal.status_code, refusal.json()["code"]) == (410, "file-lost")
    assert client.put(part, content=content).is_success
    assert client.post("/datasets", files={"upload": (None, upload), "name": (None, "noise")}).status_code == 202
