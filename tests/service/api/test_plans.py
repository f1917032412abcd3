"""Plans over HTTP: create, list, change, run and delete them, and what is refused."""

import pytest

from faal_client import Client, errors
from faal_client.vocabulary import Scope
from faal_core.specs import Policy
from jobs import plan_runs
from tests.sample_reports import sample_audit

SPEC = {"threat": {"epsilon": "8/255"}, "attacks": "quick"}


def plan_body(web, **fields) -> dict:
    """Return the body of a request for a plan whose model has a version of its own name."""
    name = f"signs {web.model()}"
    web.model(name)
    return {
        "name": "weekly",
        "model_name": name,
        "dataset": "fashion-mnist-subset",
        "every_hours": 168,
        **SPEC,
        **fields,
    }


def test_the_client_creates_changes_runs_and_deletes_a_plan(web) -> None:
    """A plan runs at once, is paused and resumed, takes a baseline, and does not exist after its deletion; its jobs are kept."""
    body = plan_body(web)
    with Client(str(web.client.base_url)) as client:
        policy = Policy(min_worst=0.2)
        created = client.create_plan(
            "weekly", body["model_name"], body["dataset"], SPEC, policy=policy, every_hours=168
        )
        assert created.policy == policy.model_dump(mode="json")
        assert (created.paused_at, created.baseline, created.error) == (None, None, None)
        assert (created.every_hours, created.next_run_at > created.created_at) == (168, True)
        assert created.spec["attacks"][0]["type"] == "pgd"
        assert created.id in [plan.id for plan in client.list_plans()]
        plan = client.plan(created.id)
        (run,) = plan.runs
        assert (run.job, run.trigger, run.status, run.worst_class) == (created.current_run, "version", "queued", None)
        with pytest.raises(errors.Conflict, match="has not ended"):
            client.run_plan(plan.id)
        with pytest.raises(errors.Conflict):
            client.change_plan(plan.id, paused=True, baseline=run.job)
        assert client.plan(plan.id).paused_at is None
        paused = client.change_plan(plan.id, paused=True)
        assert (paused.paused_at is not None, paused.next_run_at) == (True, None)
        resumed = client.change_plan(plan.id, paused=False)
        assert (resumed.paused_at, resumed.next_run_at) == (None, created.next_run_at)
        assert resumed.policy == created.policy
        changed = client.change_plan(plan.id, policy=Policy(min_clean=0.5))
        assert changed.policy == client.plan(plan.id).policy == Policy(min_clean=0.5).model_dump(mode="json")
        assert client.change_plan(plan.id, paused=False).policy == changed.policy
        assert client.change_plan(plan.id, remove_policy=True).policy is None
        with pytest.raises(ValueError, match="either"):
            client.change_plan(plan.id, policy={}, remove_policy=True)
        client.delete_plan(plan.id)
        with pytest.raises(errors.NotFound):
            client.plan(plan.id)
        assert client.job(run.job).metadata == {"plan": plan.id}


def test_a_plan_answers_with_its_location_and_a_run_with_its_job(web) -> None:
    """The answers to the creation and to a request for a run state where the plan and the job are."""
    answer = web.client.post("/plans", json=plan_body(web))
    plan = answer.json()
    assert (answer.status_code, answer.headers["Location"]) == (201, f"/plans/{plan['id']}")
    web.run(plan["current_run"])
    web.fail(plan["current_run"], "out-of-memory", "Full.")
    assert web.client.get(f"/plans/{plan['id']}").json()["runs"][0]["status"] == "failed"


@pytest.mark.parametrize(
    ("fields", "pointer"),
    [
        ({"every_hours": 0}, "/every_hours"),
        ({"every_hours": 1.5}, "/every_hours"),
        ({"every_hours": 10**9}, "/every_hours"),
        ({"name": ""}, "/name"),
        ({"model_name": "a\x00b"}, "/model_name"),
        ({"model": "model_1"}, "/model"),
        ({"policy": {}}, "/policy"),
        ({"policy": {"min_worst": 2}}, "/policy/min_worst"),
        ({"policy": {"min_class": {"a" * 201: 0.5}}}, "/policy/min_class"),
        ({"policy": {"min_group": {"a" * 201: 0.5}}}, "/policy/min_group"),
        ({"policy": {"min_worst": 0.5, "accept_warnings": ["a" * 201]}}, "/policy/accept_warnings"),
        ({"threat": {"epsilon": -1}}, "/threat/epsilon"),
        ({"sequential": {"min_worst": 0.5}}, "/sequential"),
    ],
)
def test_bodies_that_are_no_plan_are_refused(web, problem, fields, pointer) -> None:
    """A wrong schedule, name or setting, and an unknown field, answer 422 at their field."""
    body = {"name": "weekly", "model_name": "signs", "dataset": "fashion-mnist-subset", **SPEC, **fields}
    answer = problem(web.client.post("/plans", json=body))
    assert (answer["status"], answer["code"], answer["errors"][0]["pointer"]) == (422, "invalid-request", pointer)


def test_a_plan_needs_a_model_and_a_data_set_that_fit(web, problem) -> None:
    """An unknown model name and an unknown data set are refused when the plan is created."""
    body = plan_body(web)
    assert problem(web.client.post("/plans", json=body | {"model_name": "none"}))["code"] == "model-not-found"
    assert problem(web.client.post("/plans", json=body | {"dataset": "dataset_0"}))["code"] == "dataset-not-found"
    assert problem(web.client.patch("/plans/plan_0", json={"paused": True}))["code"] == "plan-not-found"
    changed = problem(web.client.patch("/plans/plan_0", json={"every_hours": 2}))
    assert (changed["status"], changed["errors"][0]["pointer"]) == (422, "/every_hours")


def test_jobs_of_a_plan_and_comparisons_have_the_priority_and_the_name_of_the_key(guarded_web) -> None:
    """The first audit, a requested one and a comparison name their key, and have no higher priority than it allows."""
    web = guarded_web
    key = web.key("ann", Scope.READ, Scope.SUBMIT, name="slow", max_priority=-5)
    web.model("signs", owner="ann")
    body = {"name": "weekly", "model_name": "signs", "dataset": "fashion-mnist-subset", **SPEC}
    plan = web.client.post("/plans", json=body, headers=key).json()
    audits = [plan["current_run"]]
    web.run(audits[0])
    web.succeed(audits[0], sample_audit())
    plan_runs.advance(web.site.sessions, web.site.settings)
    audits.append(web.client.post(f"/plans/{plan['id']}/run", headers=key).json()["id"])
    web.run(audits[1])
    web.succeed(audits[1], sample_audit())
    comparison = web.client.post("/jobs/compare", json={"jobs": audits}, headers=key).json()["id"]
    for job in (*audits, comparison):
        row = web.client.get(f"/jobs/{job}", headers=key).json()
        assert (row["submitted_by"], row["priority"]) == ("slow", -5)


def test_plans_of_others_are_not_found(guarded_web, problem) -> None:
    """A key sees and changes the plans of its own owner alone, audits this owner's models alone, and needs the scope `submit`."""
    web = guarded_web
    ann, ben = web.key("ann", Scope.READ, Scope.SUBMIT), web.key("ben", Scope.READ, Scope.SUBMIT)
    web.model("signs", owner="ann")
    body = {"name": "weekly", "model_name": "signs", "dataset": "fashion-mnist-subset", **SPEC}
    assert problem(web.client.post("/plans", json=body, headers=ben))["code"] == "model-not-found"
    reader = web.key("ann", Scope.READ)
    assert problem(web.client.post("/plans", json=body, headers=reader))["code"] == "scope-missing"
    plan = web.client.post("/plans", json=body, headers=ann).json()["id"]
    assert web.client.get("/plans", headers=ben).json()["data"] == []
    for method, path, sent in (
        ("GET", "", None),
        ("PATCH", "", {"paused": True}),
        ("DELETE", "", None),
        ("POST", "/run", None),
    ):
        answer = web.client.request(method, f"/plans/{plan}{path}", json=sent, headers=ben)
        assert problem(answer)["code"] == "plan-not-found"
    assert web.client.get(f"/plans/{plan}", headers=reader).json()["runs"] != []
