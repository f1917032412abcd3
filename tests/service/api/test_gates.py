"""Gates over HTTP: the report of a job is judged by a policy, as the library judges it."""

import pytest

from faal_client import Client
from faal_client.vocabulary import Scope
from faal_core.results.audit_comparison import compare_audits, tabulate_audits
from faal_core.results.gates.judging import judge_audit
from faal_core.results.reading import StoredAudit
from faal_core.specs import Policy
from jobs import lifecycle
from tests.sample_reports import ROBUST_AFTER, ROBUST_BEFORE, sample_audit, sample_finetune, sample_outcomes
from tests.service.api.conftest import FINETUNE
from tests.service.api.test_amplification import MOST_CPU_SECONDS, cpu_seconds

AUDIT = sample_audit()


@pytest.fixture
def audit_id(web) -> str:
    """Return the id of an audit that has succeeded."""
    job = web.audit()
    web.run(job)
    web.succeed(job, AUDIT)
    return job


def compare(web, *rates) -> str:
    """Return the id of a finished comparison of audits of the same images with those robust rates, or of a table of more."""
    jobs, pair = [], []
    for robust in rates:
        report, outcomes = sample_outcomes(robust=robust)
        pair.append(StoredAudit(report, outcomes))
        jobs.append(web.audit())
        web.run(jobs[-1])
        web.succeed(jobs[-1], report)
    comparison = web.client.post("/jobs/compare", json={"jobs": jobs}).json()["id"]
    web.run(comparison)
    report = compare_audits(*pair) if len(pair) == 2 else tabulate_audits([one.report for one in pair])
    with web.site.sessions.begin() as session:
        lifecycle.succeed(session, comparison, 1, report=report.model_dump_json())
    return comparison


@pytest.mark.parametrize(("limit", "status"), [(0.2, "pass"), (0.33, "undecided"), (0.5, "fail")])
def test_the_result_is_that_of_the_library(web, audit_id, limit, status) -> None:
    """The answer is 200 with the library's result, whatever its status; the client returns the same."""
    policy = Policy(min_worst=limit, min_clean=0.5)
    answer = web.client.post(f"/jobs/{audit_id}/gate", json={"min_worst": limit, "min_clean": 0.5})
    assert (answer.status_code, answer.json()["status"]) == (200, status)
    expected = judge_audit(policy, AUDIT)
    with Client(str(web.client.base_url)) as client:
        assert (
            client.gate(audit_id, policy) == client.gate(audit_id, {"min_worst": limit, "min_clean": 0.5}) == expected
        )
    assert answer.json() == expected.model_dump(mode="json")


def test_a_baseline_is_the_first_audit_of_a_comparison(web) -> None:
    """A comparison with a fall fails a policy with a baseline, and one without a change passes it."""
    policy = {"baseline": {"tolerance": 0.01}}
    worse = web.client.post(f"/jobs/{compare(web, ROBUST_AFTER, [0.3] * 10)}/gate", json=policy).json()
    same = web.client.post(f"/jobs/{compare(web, ROBUST_BEFORE, ROBUST_BEFORE)}/gate", json=policy).json()
    assert (worse["status"], same["status"]) == ("fail", "pass")
    assert worse["baseline"]["classifier"] == AUDIT.classifier.name


def test_a_fine_tuning_has_its_own_baseline(web) -> None:
    """A fine-tuning is judged by its new weights, and compared with the original ones."""
    report = sample_finetune()
    job = web.client.post("/jobs/finetune", json=FINETUNE | {"model": web.model()}).json()["id"]
    web.run(job)
    with web.site.sessions.begin() as session:
        lifecycle.succeed(session, job, 1, report=report.model_dump_json())
    result = web.client.post(f"/jobs/{job}/gate", json={"baseline": {"tolerance": 0.5}, "min_clean": 0.1}).json()
    assert (result["status"], result["audit"]["images"]) == ("pass", report.after.dataset.images)


def test_policies_that_ask_for_nothing_or_too_much_are_refused(web, audit_id, problem) -> None:
    """An empty policy, wrong limits, unknown names and a missing baseline answer 422, at their field where there is one."""
    bodies = [
        ({}, "invalid-request", ""),
        ({"min_worst": 2}, "invalid-request", "/min_worst"),
        ({"min_wurst": 0.2}, "invalid-request", "/min_wurst"),
        ({"min_class": {f"class {number}": 0.2 for number in range(31)}}, "invalid-request", ""),
        ({"scope": {"epsilon": "8/0"}, "min_worst": 0.2}, "invalid-request", "/scope/epsilon"),
        ({"baseline": {"tolerance": 0.01}}, "invalid-request", "/baseline"),
        ({"min_class": {"no such class": 0.2}}, "invalid-spec", None),
        ({"min_group": {"no such column": 0.2}}, "invalid-spec", None),
    ]
    for body, code, pointer in bodies:
        answer = problem(web.client.post(f"/jobs/{audit_id}/gate", json=body))
        assert (answer["status"], answer["code"]) == (422, code), answer
        if pointer is not None:
            assert answer["errors"][0]["pointer"] == pointer


def test_only_reports_are_judged(web, problem) -> None:
    """A job that waits and the check of an upload answer 409, an unknown job 404, and a table of models 422."""
    policy = {"min_worst": 0.2}
    model = web.model()
    check = web.client.get("/jobs", params={"model": model, "kind": "check-model"}).json()["data"][0]["id"]
    for job, status, code in (
        (web.audit(), 409, "job-state-conflict"),
        (check, 409, "job-state-conflict"),
        ("job_0", 404, "job-not-found"),
    ):
        answer = problem(web.client.post(f"/jobs/{job}/gate", json=policy))
        assert (answer["status"], answer["code"]) == (status, code)
    table = compare(web, ROBUST_BEFORE, ROBUST_AFTER, ROBUST_BEFORE)
    assert problem(web.client.post(f"/jobs/{table}/gate", json=policy))["code"] == "invalid-spec"


def test_the_largest_policy_takes_less_than_a_second(web) -> None:
    """Thirty classes near their limits, for each of which the deciding number of images is computed, take below a second."""
    names, rates = tuple(f"class {number}" for number in range(30)), [0.3 + 0.01 * number for number in range(30)]
    report = sample_audit(names, rates, images=50)
    job = web.audit()
    web.run(job)
    web.succeed(job, report)
    policy = {"min_class": {row.name: min(1.0, row.robust.rate + 0.0007) for row in report.classes}}
    web.client.post(f"/jobs/{job}/gate", json={"min_worst": 0.2})  # imports SciPy
    before = cpu_seconds(web.process.pid)
    answer = web.client.post(f"/jobs/{job}/gate", json=policy)
    assert answer.json()["status"] == "undecided"
    assert cpu_seconds(web.process.pid) - before < MOST_CPU_SECONDS


def test_reports_of_others_are_not_found(guarded_web, problem) -> None:
    """A key judges the reports of its own owner alone; the scope `read` is enough, since the result is not stored."""
    web = guarded_web
    ann, ben = web.key("ann", Scope.READ, Scope.SUBMIT), web.key("ben", Scope.READ)
    body = {"model": web.model(owner="ann"), "dataset": "fashion-mnist-subset", "threat": {"epsilon": "8/255"}}
    job = web.client.post("/jobs/audit", json=body, headers=ann).json()["id"]
    web.run(job)
    web.succeed(job, AUDIT)
    address, policy = f"/jobs/{job}/gate", {"min_worst": 0.2}
    assert problem(web.client.post(address, json=policy, headers=ben))["code"] == "job-not-found"
    assert web.client.post(address, json=policy, headers=web.key("ann", Scope.READ)).json()["passed"]
