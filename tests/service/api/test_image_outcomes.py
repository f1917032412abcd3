"""The outcomes of the images of an audit, downloaded over HTTP."""

import pytest

from faal_client import Client
from faal_client.vocabulary import Scope
from tests.sample_reports import sample_outcomes

CONTENT = b"PAR1 the outcome of each image PAR1"


@pytest.fixture
def audit_id(web) -> str:
    """Return the id of an audit that has succeeded, with outcomes."""
    job = web.audit()
    web.run(job)
    web.succeed(job, audit=CONTENT)
    return job


def test_the_file_is_sent_whole_in_ranges_or_not_again(web, audit_id) -> None:
    """The answer has the digest of the file; a range is a part of it, and an unchanged file is not sent again."""
    address = f"/jobs/{audit_id}/outcomes"
    whole = web.client.get(address)
    assert (whole.status_code, whole.content) == (200, CONTENT)
    assert whole.headers["Content-Type"] == "application/vnd.apache.parquet"
    assert f'filename="{audit_id}-outcomes.parquet"' in whole.headers["Content-Disposition"]
    assert whole.headers["Repr-Digest"] == whole.headers["Content-Digest"]
    part = web.client.get(address, headers={"Range": "bytes=5-7"})
    assert (part.status_code, part.content) == (206, CONTENT[5:8])
    assert web.client.get(address, headers={"Range": "bytes=999-"}).status_code == 416
    unchanged = web.client.get(address, headers={"If-None-Match": whole.headers["ETag"]})
    assert (unchanged.status_code, unchanged.content) == (304, b"")


def test_the_client_saves_what_the_library_reads(web, tmp_path) -> None:
    """A file that the client has downloaded is read by the library, which checks it against the report."""
    from faal_core.results.outcomes import read_outcomes

    report, outcomes = sample_outcomes(images=20)
    outcomes.write(tmp_path / "stored.parquet", report)
    job = web.audit()
    web.run(job)
    web.succeed(job, report, audit=(tmp_path / "stored.parquet").read_bytes())
    with Client(str(web.client.base_url)) as client:
        file = client.download_outcomes(job, tmp_path / "mine.parquet")
        assert read_outcomes(file, client.report(job)).sha256 == outcomes.sha256


def test_what_is_not_there_is_a_problem(web, problem, audit_id) -> None:
    """A report without stored outcomes answers 404, a job without a report 409, and a wrong audit 422."""
    older = web.audit()
    web.run(older)
    assert problem(web.client.get(f"/jobs/{older}/outcomes"))["code"] == "job-state-conflict"
    web.succeed(older)
    answer = problem(web.client.get(f"/jobs/{older}/outcomes"))
    assert (answer["status"], answer["code"]) == (404, "outcomes-not-found")
    assert problem(web.client.get("/jobs/job_0/outcomes"))["code"] == "job-not-found"
    assert problem(web.client.get(f"/jobs/{audit_id}/outcomes?audit=during"))["code"] == "invalid-request"


def test_a_lost_file_is_gone_until_it_is_stored_again(web, problem) -> None:
    """A file that is missing in storage answers 410, until another audit stores the same content."""
    job = web.audit()
    web.run(job)
    web.succeed(job, audit=b"to be lost")
    digest = web.client.get(f"/jobs/{job}/outcomes").headers["ETag"].strip('"')
    web.site.storage.remove(digest)
    answer = problem(web.client.get(f"/jobs/{job}/outcomes"))
    assert (answer["status"], answer["code"]) == (410, "file-lost")
    other = web.audit()
    web.run(other)
    web.succeed(other, audit=b"to be lost")
    assert web.client.get(f"/jobs/{job}/outcomes").content == b"to be lost"


def test_a_deleted_job_takes_its_file(web, problem) -> None:
    """The outcomes are removed from storage with the job."""
    job = web.audit()
    web.run(job)
    web.succeed(job, audit=b"to be deleted")
    digest = web.client.get(f"/jobs/{job}/outcomes").headers["ETag"].strip('"')
    assert web.client.delete(f"/jobs/{job}").status_code == 204
    assert problem(web.client.get(f"/jobs/{job}/outcomes"))["code"] == "job-not-found"
    assert not web.site.storage.exists(digest)


def test_outcomes_of_others_are_not_found(guarded_web, problem) -> None:
    """A key of another owner finds no job, and a key without the scope `read` is refused."""
    web = guarded_web
    ann, ben = web.key("ann", Scope.READ, Scope.SUBMIT), web.key("ben", Scope.READ)
    body = {"model": web.model(owner="ann"), "dataset": "fashion-mnist-subset", "threat": {"epsilon": "8/255"}}
    job = web.client.post("/jobs/audit", json=body, headers=ann).json()["id"]
    web.run(job)
    web.succeed(job, audit=b"hers")
    address = f"/jobs/{job}/outcomes"
    assert web.client.get(address, headers=ann).content == b"hers"
    assert problem(web.client.get(address, headers=ben))["code"] == "job-not-found"
    assert problem(web.client.get(address, headers=web.key("ann", Scope.SUBMIT)))["code"] == "scope-missing"
