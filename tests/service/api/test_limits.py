"""Quotas and rates of an owner, each with its limit in the answer."""

from contextlib import closing

from faal_client.vocabulary import Scope
from tests.service.api.conftest import AUDIT, FINETUNE, Web
from tests.service.api.test_partial_uploads import register, start_upload
from tests.service.api.test_uploads import weights


def test_quotas_and_rates_are_each_owners(open_site, problem) -> None:
    """Past a quota or rate ann gets 429 with the limit and the time to retry; ben is served, and so is she after a job's end."""
    site = open_site(quota_jobs=2, quota_bytes=5000, requests_per_minute=40)
    process, client = site.api()
    with closing(client):
        web = Web(site, process, client)
        ann, ben = (web.key(owner, Scope.READ, Scope.SUBMIT) for owner in ("ann", "ben"))
        model = web.model(owner="ann")
        jobs = [client.post("/jobs/audit", headers=ann, json=AUDIT | {"model": model}).json()["id"] for _ in range(2)]
        for answer in (
            client.post("/jobs/audit", headers=ann, json=AUDIT | {"model": model}),
            client.post("/datasets", headers=ann, files={"file": ("a.zip", b"PK\x03\x04")}),
        ):
            refusal = problem(answer)
            assert (refusal["status"], refusal["code"]) == (429, "quota-exceeded")
            assert refusal["limit"] == {"of": "jobs", "most": 2, "used": 2}
            assert int(answer.headers["Retry-After"]) > 0
        assert [file for file in site.storage.root.glob("*/*") if file.stat().st_size == 4] == []
        client.post(f"/jobs/{jobs[0]}/cancel", headers=ann)
        upload = {"file": ("a.zip", b"PK\x03\x04" + bytes(4000))}
        with_key = ann | {"Idempotency-Key": "mine"}
        assert client.post("/datasets", headers=with_key, files=upload).status_code == 202
        again = client.post(
            "/datasets", headers=with_key, files=upload
        )  # adds nothing, though there is room for nothing
        assert again.status_code == 202
        client.post(f"/jobs/{jobs[1]}/cancel", headers=ann)
        refusal = problem(client.post("/datasets", headers=ann, files={"file": ("b.zip", b"PK\x03\x04" + bytes(2000))}))
        assert (refusal["code"], refusal["limit"]["of"], refusal["limit"]["most"]) == ("quota-exceeded", "bytes", 5000)
        assert client.post("/datasets", headers=ben, files=upload).status_code == 202

        last = client.get("/jobs", headers=ann)
        while last.is_success:
            last = client.get("/jobs", headers=ann)
        assert problem(last)["code"] == "rate-exceeded"
        assert problem(last)["limit"] == {"of": "requests", "most": 40, "used": 40}
        assert 0 < int(last.headers["Retry-After"]) <= 60
        assert client.get("/jobs", headers=ben).is_success
        assert client.get("/healthz").is_success


def test_a_repair_needs_room_for_its_weights(open_site, problem) -> None:
    """An owner whose bytes are used up can submit an audit, but no fine-tuning."""
    site = open_site(quota_bytes=5)
    process, client = site.api()
    with closing(client):
        model = Web(site, process, client).model()
        assert client.post("/jobs/audit", json=AUDIT | {"model": model}).status_code == 202
        assert problem(client.post("/jobs/finetune", json=FINETUNE | {"model": model}))["limit"]["of"] == "bytes"
        assert len(client.get("/jobs", params={"kind": "finetune"}).json()["data"]) == 0


def test_what_is_coming_counts_in_the_quota(open_site) -> None:
    """Started uploads count at once, an assembled one counts as its file only, and an abandoned one does not count."""
    process, client = (site := open_site(quota_bytes=3000)).api()
    with closing(client):
        web = Web(site, process, client)
        first = start_upload(web, 1400)
        assert client.post("/uploads", json={"size": 1600}).json()["code"] == "quota-exceeded"
        second = start_upload(web, 1500)
        for address, size in ((first, 1400), (second, 1500)):
            assert client.put(f"{address}/parts/0", content=weights(size)).status_code == 204
        assert register(web, second).status_code == 202
        assert client.delete(first).status_code == 204
        start_upload(web, 1400)
