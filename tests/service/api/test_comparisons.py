"""Comparisons over HTTP: what is accepted and refused, the report, and the page of the job."""

import re

import pytest

from faal_client import Client, errors
from faal_client.vocabulary import Scope
from faal_core.results.audit_comparison import compare_audits
from faal_core.results.reading import StoredAudit
from jobs import lifecycle
from tests.sample_reports import ROBUST_AFTER, sample_audit, sample_outcomes


def finished_audit(web, report=None) -> str:
    """Return the id of an audit that has succeeded with that report."""
    job = web.audit()
    web.run(job)
    web.succeed(job, report or sample_audit())
    return job


@pytest.fixture
def audits(web) -> list[str]:
    """Return the ids of two audits that have succeeded."""
    return [finished_audit(web) for _ in range(2)]


def test_the_list_of_jobs_compares_the_chosen_ones(web, audits) -> None:
    """The page compares the older audit with the newer one; one audit alone and unknown jobs are refused on a page."""
    page = web.client.get("/").text
    assert [page.count(f'type="checkbox" name="job" value="{job}"') for job in audits] == [1, 1]
    answer = web.client.post("/ui/comparisons", data={"job": audits[::-1]})
    assert answer.status_code == 303
    job = web.client.get(answer.headers["Location"].removeprefix("/ui")).json()
    assert (job["kind"], job["spec"]) == ("compare", {"jobs": sorted(audits)})
    for chosen, status in ((audits[:1], 422), ([], 422), ([audits[0], "job_0"], 404)):
        refusal = web.client.post("/ui/comparisons?kind=audit", data={"job": chosen})
        assert (refusal.status_code, "<!doctype html>" in refusal.text) == (status, True)
        assert [job for job in audits if f'value="{job}" checked' in refusal.text] == audits[: len(chosen) and 1]
        assert '<option value="audit" selected>' in refusal.text
        assert ("Choose 2 to 20 audits." in refusal.text) == (status == 422)
    answer = web.client.post("/jobs/compare", json={"jobs": audits[:1]}).json()
    assert answer["errors"][0]["detail"].startswith("the list should have at least 2 items")


def test_a_comparison_is_queued_and_answers_with_its_report(web, audits) -> None:
    """The answer is the queued job; its report is a document like others, and the pages show the job."""
    answer = web.client.post("/jobs/compare", json={"jobs": audits, "metadata": {"pull": "7"}})
    job = answer.json()
    assert (answer.status_code, answer.headers["Location"]) == (202, f"/jobs/{job['id']}")
    assert (job["kind"], job["model"], job["dataset"]) == ("compare", None, None)
    assert (job["spec"], job["metadata"]) == ({"jobs": audits}, {"pull": "7"})
    address = f"/jobs/{job['id']}/report"
    assert web.client.get(address).status_code == 202
    assert "Comparison" in web.client.get(f"/ui/jobs/{job['id']}").text
    web.run(job["id"])
    pair = [StoredAudit(*sample_outcomes(images=20)), StoredAudit(*sample_outcomes(robust=ROBUST_AFTER, images=20))]
    report = compare_audits(*pair)
    with web.site.sessions.begin() as session:
        lifecycle.succeed(session, job["id"], 1, report=report.model_dump_json())
    assert web.client.get(address, headers={"Accept": "application/json"}).text == report.model_dump_json()
    assert web.client.get(address, params={"format": "html"}).text.startswith("<!doctype html>")
    with Client(str(web.client.base_url)) as client:
        assert client.comparison(job["id"]) == report
        with pytest.raises(ValueError, match="no comparison"):
            client.comparison(audits[0])
    page = web.client.get(f"/ui/jobs/{job['id']}").text
    assert all(f'href="/ui/jobs/{audit}"' in page for audit in audits)
    assert "Read the report" in page
    assert "Comparison" in web.client.get("/").text
    listed = web.client.get("/jobs", params={"kind": "compare"}).json()["data"]
    assert job["id"] in [one["id"] for one in listed]


def test_bodies_that_name_no_jobs_are_refused(web, audits, problem) -> None:
    """Too few, too many or equal jobs, ids that are no text, and unknown fields answer 422 at their field."""
    bodies = [
        ({}, "/jobs"),
        ({"jobs": audits[:1]}, "/jobs"),
        ({"jobs": [audits[0], audits[0]]}, "/jobs"),
        ({"jobs": [f"job_{number}" for number in range(21)]}, "/jobs"),
        ({"jobs": [audits[0], 7]}, "/jobs/1"),
        ({"jobs": [audits[0], "job_\x00"]}, "/jobs/1"),
        ({"jobs": "job_1"}, "/jobs"),
        ({"jobs": audits, "model": "model_1"}, "/model"),
    ]
    for body, pointer in bodies:
        answer = problem(web.client.post("/jobs/compare", json=body))
        assert (answer["status"], answer["code"], answer["errors"][0]["pointer"]) == (422, "invalid-request", pointer)


def test_jobs_that_cannot_be_compared_are_refused_at_once(web, audits, problem) -> None:
    """Different attacks answer 422, a job that waits 409 and an unknown one 404, and no job is made."""
    count = len(web.client.get("/jobs", params={"kind": "compare", "limit": 100}).json()["data"])
    quick = finished_audit(web, sample_audit(attacks="quick"))
    for jobs, status, code in (
        ([audits[0], quick], 422, "invalid-spec"),
        ([audits[0], web.audit()], 409, "job-state-conflict"),
        ([audits[0], "job_0"], 404, "job-not-found"),
    ):
        answer = problem(web.client.post("/jobs/compare", json={"jobs": jobs}))
        assert (answer["status"], answer["code"]) == (status, code)
    assert len(web.client.get("/jobs", params={"kind": "compare", "limit": 100}).json()["data"]) == count


def test_a_repeated_request_makes_one_comparison(web, audits) -> None:
    """A second request with the same idempotency key returns the first job."""
    with Client(str(web.client.base_url)) as client:
        first, second = (client.submit_comparison(audits, idempotency_key=audits[0]) for _ in range(2))
    assert first.id == second.id


def test_compared_jobs_cannot_be_deleted_meanwhile(web, audits, problem) -> None:
    """A deletion of a compared job answers 409 until the comparison has ended."""
    comparison = web.client.post("/jobs/compare", json={"jobs": audits}).json()["id"]
    assert problem(web.client.delete(f"/jobs/{audits[0]}"))["code"] == "in-use"
    web.client.post(f"/jobs/{comparison}/cancel")
    assert web.client.delete(f"/jobs/{audits[0]}").status_code == 204
    retried = problem(web.client.post(f"/jobs/{comparison}/retry"))
    assert (retried["status"], retried["code"]) == (404, "job-not-found")


def test_a_comparison_has_no_outcomes(web, audits, problem) -> None:
    """The outcomes of a comparison answer 409, since it audits no images."""
    comparison = web.client.post("/jobs/compare", json={"jobs": audits}).json()["id"]
    assert problem(web.client.get(f"/jobs/{comparison}/outcomes"))["code"] == "job-state-conflict"


def test_jobs_of_others_are_not_found(guarded_web, problem) -> None:
    """A key compares the jobs of its own owner alone, and needs the scope `submit`."""
    web = guarded_web
    ann, ben = web.key("ann", Scope.READ, Scope.SUBMIT), web.key("ben", Scope.READ, Scope.SUBMIT)
    body = {"model": web.model(owner="ann"), "dataset": "fashion-mnist-subset", "threat": {"epsilon": "8/255"}}
    jobs = [web.client.post("/jobs/audit", json=body, headers=ann).json()["id"] for _ in range(2)]
    for job in jobs:
        web.run(job)
        web.succeed(job)
    address = str(web.client.base_url)
    assert problem(web.client.post("/jobs/compare", json={"jobs": jobs}, headers=ben))["code"] == "job-not-found"
    reader = web.key("ann", Scope.READ)
    assert problem(web.client.post("/jobs/compare", json={"jobs": jobs}, headers=reader))["code"] == "scope-missing"
    with Client(address, key=ann["Authorization"].removeprefix("Bearer ")) as client:
        assert client.submit_comparison(jobs).kind == "compare"
    with Client(address, key=ben["Authorization"].removeprefix("Bearer ")) as client, pytest.raises(errors.NotFound):
        client.submit_comparison(jobs)


def test_a_comparison_has_the_names_of_its_models(web, audits) -> None:
    """Two models of one name are distinguished by the minutes in which they were added, or else their jobs by their times."""
    job = web.client.post("/jobs/compare", json={"jobs": audits}).json()["id"]
    page = web.client.get(f"/ui/jobs/{job}").text
    [title] = re.findall("<h1>(.*?)</h1>", page)
    name = r"digits, (version added|job of) \d+ \w+ \d\d:\d\d(:\d\d)?"
    assert re.fullmatch(f"{name} against {name}", title)
    assert f'<a href="/ui/jobs/{audits[0]}">{title.partition(" against ")[2]}</a>' in page
    assert f">Comparison: {title}</a>" in web.client.get("/?kind=compare").text
