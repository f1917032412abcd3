"""The address that clients poll for a report."""

import pytest

from tests.sample_reports import sample_audit

BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"


@pytest.fixture
def running(web) -> str:
    """Return the id of a running audit that has done 30 of 90 images."""
    job = web.audit()
    web.run(job)(stage="clean", done=30, total=90)
    return job


def test_a_report_that_is_not_there_is_promised(web, running) -> None:
    """While the job waits or runs the answer is 202 with its progress and the time to poll again."""
    answer = web.client.get(f"/jobs/{running}/report")
    assert answer.status_code == 202
    assert 1 <= int(answer.headers["Retry-After"]) <= 60
    body = {"status": "running", "stage": "clean", "progress": {"done": 30, "total": 90, "seconds_left": None}}
    assert answer.json() == {"object": "pending-report", "job": running} | body
    waiting = web.client.get(f"/jobs/{web.audit()}/report")
    assert (waiting.status_code, waiting.json()["status"], waiting.json()["progress"]) == (202, "queued", None)


def test_the_report_is_the_stored_document(web, running) -> None:
    """JSON is answered byte for byte as the worker stored it, also when a browser asks for it by name."""
    document = web.succeed(running)
    for headers, query in [({}, {}), ({"Accept": "application/json"}, {}), ({"Accept": BROWSER}, {"format": "json"})]:
        answer = web.client.get(f"/jobs/{running}/report", headers=headers, params=query)
        assert (answer.status_code, answer.headers["Content-Type"]) == (200, "application/json")
        assert answer.text == document
        assert answer.headers["Vary"] == "Accept"


def test_browsers_get_a_page(web, running) -> None:
    """By Accept or by name the report is an HTML page, which may neither load nor run anything."""
    web.succeed(running)
    for headers, query in [({"Accept": BROWSER}, {}), ({}, {"format": "html"})]:
        answer = web.client.get(f"/jobs/{running}/report", headers=headers, params=query)
        assert (answer.status_code, answer.headers["Content-Type"]) == (200, "text/html; charset=utf-8")
        assert answer.text.startswith("<!doctype html>")
        policy = answer.headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "script-src" not in policy


def test_an_unchanged_report_is_not_sent_again(web, running) -> None:
    """If-None-Match with the tag of the same kind is answered with 304; the tags of JSON and HTML differ."""
    web.succeed(running)
    address = f"/jobs/{running}/report"
    tags = {kind: web.client.get(address, params={"format": kind}).headers["ETag"] for kind in ("json", "html")}
    assert len(set(tags.values())) == 2
    for kind, tag in tags.items():
        assert web.client.get(address, params={"format": kind}, headers={"If-None-Match": tag}).status_code == 304
    other_tag = web.client.get(address, params={"format": "html"}, headers={"If-None-Match": tags["json"]})
    assert other_tag.status_code == 200


def test_a_failed_job_tells_its_own_error(web, running, problem) -> None:
    """The report of a failed job is 409 `job-failed` with the job's code and message."""
    own = {"code": "training-diverged", "message": "The loss became NaN in epoch 2; take a smaller learning rate."}
    web.fail(running, **own)
    answer = problem(web.client.get(f"/jobs/{running}/report"))
    assert (answer["status"], answer["code"], answer["error"]) == (409, "job-failed", own)
    assert web.client.get(f"/jobs/{running}").json()["error"] == own


def test_a_cancelled_job_has_no_report(web, problem) -> None:
    """The report of a cancelled job is 409 `job-cancelled`, that of an unknown one 404."""
    job = web.audit()
    web.client.post(f"/jobs/{job}/cancel")
    answer = problem(web.client.get(f"/jobs/{job}/report"))
    assert (answer["status"], answer["code"]) == (409, "job-cancelled")
    assert problem(web.client.get("/jobs/job_0/report"))["code"] == "job-not-found"


def test_a_cancelled_audit_tells_what_it_had_found(web, running) -> None:
    """The report of a cancelled audit is answered like any other, as a page and as JSON."""
    document = web.cancel(running, report=sample_audit().model_dump_json())
    answer = web.client.get(f"/jobs/{running}/report")
    assert (answer.status_code, answer.text) == (200, document)
    assert web.client.get(f"/jobs/{running}").json()["status"] == "cancelled"
    page = web.client.get(f"/ui/jobs/{running}").text
    assert "Results so far" in page
    assert f"/jobs/{running}/report?format=html" in page


def test_checks_of_uploads_promise_no_report(web, problem) -> None:
    """A client that polls the check of an upload gets an error at once, since no report will exist."""
    model = web.model()
    check = web.client.get("/jobs", params={"model": model, "kind": "check-model"}).json()["data"][0]["id"]
    assert problem(web.client.get(f"/jobs/{check}/report"))["code"] == "job-state-conflict"
