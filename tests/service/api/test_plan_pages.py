"""The pages of plans: the form that creates one from an audit, the list, and a plan with its runs and buttons."""

import json
import re
from html import unescape

import pytest

from faal_core.results.audit_comparison import compare_audits
from faal_core.results.reading import StoredAudit
from jobs import plan_runs
from tests.sample_reports import ROBUST_BEFORE, sample_outcomes
from tests.service.api.conftest import Web
from tests.service.api.test_pages import HOSTILE, Elements
from tests.service.api.test_start_form import add_dataset

GOOD, WORSE = (
    StoredAudit(*sample_outcomes(images=100, robust=(*ROBUST_BEFORE[:9], last))) for last in (ROBUST_BEFORE[9], 0.2)
)


def finish_audit(web: Web, name: str) -> str:
    """Return the id of an audit of a model of that name that has succeeded."""
    job = web.audit(web.model(name))
    web.run(job)
    web.succeed(job)
    return job


def finish_run(web: Web, plan_id: str, audit: StoredAudit) -> dict:
    """Let the audit of the plan's run succeed, and its comparison with GOOD, if there is one; return the run."""
    for report in (audit.report, compare_audits(GOOD, audit)):
        run = web.client.get(f"/plans/{plan_id}").json()["runs"][0]
        if job := run["comparison"] or (run["job"] if report is audit.report else None):
            web.run(job)
            web.succeed(job, report, audit=b"rows") if report is audit.report else web.succeed(job, report)
            plan_runs.advance(web.site.sessions, web.site.settings)
    return web.client.get(f"/plans/{plan_id}").json()["runs"][0]


def find_row(page: str, plan_id: str) -> str:
    """Return the row of the plan in the list, without tags."""
    row = page[page.index(f'href="/ui/plans/{plan_id}"') :].partition("</tr>")[0]
    return " ".join(unescape(re.sub(r"<[^>]*>", " ", row)).split())


def outside_of_values(page: str) -> str:
    """Return the page without the values of its fields, which are as the owner typed them."""
    return re.sub(r'value="[^"]*"', "", page)


@pytest.mark.parametrize(
    ("change", "field", "reason"),
    [
        ({"name": " "}, "name", "at least 1 character"),
        ({"model_name": "nothing"}, "model_name", "No model named"),
        ({"dataset": "cifar100"}, "dataset", "The model has 10 classes"),
        ({"every_hours": "0"}, "every_hours", "greater than or equal to 1"),
        ({"policy": "min_worst: [" + "\r\n# more" * 2000}, "policy", "is not a policy in YAML"),
        ({"policy": '{"min_worst": 2}'}, "policy", "min_worst: "),
        ({"policy": "min_class:\n  skirt: 0.5"}, "policy", "skirt"),
        ({"policy": "min_class:\n  no such class: 0.5"}, "policy", "has no 'no such class'"),
        ({"policy": "#" * 40_000}, "policy", "more than 32,768 characters"),
        ({"name": "a\tb"}, "name", "a tab or another control character"),
        ({"name": "x" * 300}, "name", "at most 200 characters"),
    ],
)
def test_an_error_is_at_its_field_and_the_values_stay(web, change, field, reason) -> None:
    """The message describes the wrong field, which has the focus, and the form keeps the values."""
    audit = finish_audit(web, "signs")
    if "skirt" in reason:  # the classes of an uploaded data set are known when the plan is created
        change = change | {"dataset": add_dataset(web, "signs", [1, 28, 28], [*"0123456789"], test=9)}
    form = {"like": audit, "name": HOSTILE, "model_name": "signs", "dataset": "fashion-mnist-subset", **change}
    page = web.client.post("/ui/plans", data=form)
    elements = [attributes for _, attributes in Elements(page).elements]
    assert "autofocus" in next(one for one in elements if one.get("id") == field)
    message = page.text[page.text.index(f'id="{field}-error"') :].partition("</small>")[0]
    assert reason in unescape(message)
    for name in ("name", "model_name", "every_hours"):
        assert next(one for one in elements if one.get("id") == name)["value"] == form.get(name, "")
    assert ("Choose a data set" in page.text) is (form["dataset"] == "cifar100")
    policy = re.search(r'<textarea id="policy"[^>]*>\n(.*?)</textarea>', page.text, re.DOTALL)
    assert policy is not None
    assert unescape(policy[1]) == form.get("policy", "")
    assert "\u202e" not in outside_of_values(page.text)


def test_messages_on_pages_name_no_routes(web) -> None:
    """Errors whose messages name routes of the API are sentences for readers on pages."""
    audit = finish_audit(web, "signs")
    form = {"like": audit, "name": "x", "model_name": "signs"}
    refused = [web.client.get("/ui/plans/plan_x"), web.client.get("/ui/jobs/job_x/gate")]
    refused += [web.client.post("/ui/plans", data=form | {"dataset": name}) for name in ("dataset_x", "zzz", "mnist")]
    for page, phrase in zip(
        refused, ("deleted", "deleted", "deleted", "the form lists", "the form lists"), strict=True
    ):
        (main,) = re.findall("<main.*?</main>", page.text, re.DOTALL)
        assert phrase in main
        assert not re.search("GET |POST ", main)


def test_a_plan_is_created_followed_and_changed_on_its_pages(web) -> None:
    """The form repeats an audit; the pages show falls against the baseline with intervals; each button does its change."""
    client, name = web.client, f"{HOSTILE} {web.model()}"
    audit = finish_audit(web, name)
    form_address = f"/ui/plans/new?like={audit}"
    assert f'href="{form_address}"' in client.get(f"/ui/jobs/{audit}").text
    page = client.get(form_address)
    assert next(one for _, one in Elements(page).elements if one.get("id") == "name")["value"] == name
    assert "\u202e" not in outside_of_values(page.text)
    fields = {"like": audit, "name": HOSTILE, "model_name": name, "dataset": "fashion-mnist-subset"}
    answer = client.post("/ui/plans", data=fields | {"every_hours": "24", "policy": "min_worst: 0.6\r\n"})
    assert answer.status_code == 303
    address = answer.headers["Location"]
    plan_id = address.rpartition("/")[2]
    plan = client.get(f"/plans/{plan_id}").json()
    assert (plan["spec"], plan["every_hours"]) == (client.get(f"/jobs/{audit}").json()["spec"], 24)
    assert plan["policy"]["min_worst"] == 0.6
    row = find_row(client.get("/ui/plans").text, plan_id)
    assert "each new version, and every 24 hours active audit queued – – –" in row
    assert f"plan={plan_id}" in client.get("/ui/plans").text

    first = finish_run(web, plan_id, GOOD)
    assert "the baseline" in find_row(client.get("/ui/plans").text, plan_id)
    assert client.post(f"{address}/run").headers["Location"] == address
    assert "/run" not in client.get(address).text
    run = finish_run(web, plan_id, WORSE)
    assert (run["falls"], run["gate"]) == (len(compare_audits(GOOD, WORSE).falls), "fail")
    listed = client.get("/ui/plans").text
    assert f"plan={plan_id}" not in listed
    row, change = find_row(listed, plan_id), run["worst_change"]
    low, high = (f"{100 * change[bound]:+.1f}".replace("-", "−") for bound in ("low", "high"))
    assert f"{run['falls']} accuracies fell" in row
    assert f"{100 * run['worst_class']['rate']:.1f} % ankle boot" in row
    assert f"points ({low} to {high})" in row

    page = client.get(address)
    assert not [tag for tag, _ in Elements(page).elements if tag == "img"]
    assert '<polyline class="worst"' in page.text
    assert "hx-get" not in page.text
    for job in (first["job"], run["job"], run["comparison"]):
        assert f'href="/ui/jobs/{job}"' in page.text
        assert f'<a href="{address}">' in client.get(f"/ui/jobs/{job}").text
    check = next(one for _, one in Elements(page).elements if one.get("id") == f"check-{run['job']}")
    policy = next(one["value"] for _, one in Elements(page).elements if one.get("name") == "policy_json")
    assert json.loads(json.loads(policy)) == {"min_worst": 0.6}
    assert "The gate failed" in client.post(check["formaction"], data={"policy_json": policy}).text
    assert f'"{address}/baselines/{first["job"]}"' not in page.text
    assert client.post(f"{address}/baselines/{run['job']}").status_code == 303
    assert client.get(f"/plans/{plan_id}").json()["baseline"] == run["job"]
    assert "against an earlier baseline" in find_row(client.get("/ui/plans").text, plan_id)
    for order, is_paused in (("pause", True), ("resume", False)):
        assert f'action="{address}/{order}"' in client.get(address).text
        assert client.post(f"{address}/{order}").status_code == 303
        assert (client.get(f"/plans/{plan_id}").json()["paused_at"] is not None) is is_paused
    assert client.post(f"{address}/policy/remove").headers["Location"] == address
    assert (client.get(f"/plans/{plan_id}").json()["policy"], "/policy/remove" in client.get(address).text) == (
        None,
        False,
    )
    assert client.post(f"{address}/delete").headers["Location"] == "/ui/plans"
    assert client.get(address).status_code == 404
