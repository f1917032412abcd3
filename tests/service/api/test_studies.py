"""Studies over HTTP: create, list, follow, cancel and delete them, their table, and what is refused."""

from html import unescape

import pytest
from sqlalchemy import delete

from faal_client import Client, errors
from faal_client.resources.studies import StudyResource
from faal_client.vocabulary import Scope
from faal_core.results.finetune_documents import FinetuneReport
from faal_core.results.method_table import tabulate_methods
from faal_core.specs import FinetuneSpec, UniformMethod
from jobs import lifecycle
from jobs.tables import Report
from tests.sample_reports import sample_finetune
from tests.service.api.conftest import FINETUNE
from tests.service.api.test_pages import HOSTILE

SETTINGS = {"threat": {"epsilon": "8/255"}}
METHODS = [{"type": "faal"}, UniformMethod()]
BODY = FINETUNE | {"name": "rivals", "methods": [{"type": "faal"}, {"type": "uniform"}], "seeds": [0, 1]}
SAMPLE = sample_finetune()


def succeed(web, client, job: str) -> FinetuneReport:
    """Let the job succeed with a sample report of its spec, and return the report."""
    spec = FinetuneSpec.model_validate(client.job(job).spec)
    report = SAMPLE.model_copy(update={"spec": spec})
    web.run(job)
    with web.site.sessions.begin() as session:
        lifecycle.succeed(session, job, 1, report=report.model_dump_json())
    return report


def test_the_client_creates_a_study_and_reads_its_table(web) -> None:
    """A study has a job for each method and seed; its table is the library's, of the jobs that have succeeded so far."""
    with Client(str(web.client.base_url)) as client:
        arguments = ("rivals", web.model(), "fashion-mnist-subset", SETTINGS)
        made = [
            client.create_study(*arguments, methods=METHODS, seeds=[0, 1], idempotency_key=arguments[1], priority=-1)
            for _ in range(2)
        ]
        study = made[0]
        assert made[1].id == study.id
        assert [(run.method, run.seed, run.status) for run in study.runs] == [
            (method, seed, "queued") for method in (0, 1) for seed in (0, 1)
        ]
        assert [method["type"] for method in study.methods] == ["faal", "uniform"]
        jobs = client.list_jobs(metadata={"study": study.id})
        assert {(job.id, job.priority) for job in jobs} == {(run.job, -1) for run in study.runs}
        assert StudyResource(**study.model_dump(exclude={"runs"})) in list(client.list_studies())
        address = f"/studies/{study.id}/table"
        pending = web.client.get(address)
        assert (pending.status_code, pending.json()["states"]) == (202, {"queued": 4})
        with pytest.raises(TimeoutError):
            client.study_table(study.id, timeout=0)
        reports = [succeed(web, client, run.job) for run in study.runs[:3]]
        table = client.study_table(study.id)
        assert table == tabulate_methods(reports, requested=4).model_copy(update={"created_at": table.created_at})
        answer = web.client.get(address, headers={"Accept": "text/html"})
        assert "Without a report: 1 of 4 fine-tunings" in answer.text
        again = {"Accept": "text/html", "If-None-Match": answer.headers["ETag"]}
        assert web.client.get(address, headers=again).status_code == 304
        cancelled = client.cancel_study(study.id)
        assert (cancelled.states, cancelled.done, cancelled.total) == ({"succeeded": 3, "cancelled": 1}, 4, 4)
        assert client.wait_for_study(study.id) == cancelled
        assert web.client.get(address, headers=again).status_code == 200
        with web.site.sessions.begin() as session:
            session.execute(delete(Report).where(Report.job_id == study.runs[0].job))  # as if the job was deleted now
        assert client.study_table(study.id).missing == 2
        client.delete_study(study.id)
        with pytest.raises(errors.NotFound):
            client.study(study.id)
        assert client.job(study.runs[0].job).status == "succeeded"


def test_a_study_without_a_result_has_no_table(web, problem) -> None:
    """If all jobs were cancelled, the table answers 409 instead of a further wait."""
    answer = web.client.post("/studies", json=BODY | {"model": web.model()})
    study = answer.json()
    assert (answer.status_code, answer.headers["Location"]) == (201, f"/studies/{study['id']}")
    assert web.client.post(f"/studies/{study['id']}/cancel").json()["states"] == {"cancelled": 4}
    assert problem(web.client.get(f"/studies/{study['id']}/table"))["code"] == "job-state-conflict"


@pytest.mark.parametrize(
    ("fields", "pointer", "words"),
    [
        ({"methods": []}, "/methods", "at least 1 item"),
        ({"methods": [{"type": "sorcery"}]}, "/methods/0", "none of faal"),
        ({"methods": [{"type": "faal"}, {}]}, "", "methods are not all different"),
        (
            {"methods": [{"type": "uniform", "beta": beta} for beta in range(4)], "seeds": [*range(8)]},
            "",
            "are 32 jobs",
        ),
        ({"methods": [{"type": "frl"}], "training": {"validation_fraction": 0}}, "", "frl learns from validation"),
        ({"seeds": [1, 1]}, "/seeds", "not all different"),
        ({"seeds": [-1]}, "/seeds/0", "greater than or equal to 0"),
        ({"training": {"seed": 3}}, "/training", "list"),
        ({"method": {"type": "faal"}}, "/method", "no such field"),
        ({"metadata": {"study": "mine"}}, "/metadata", "choose another key"),
    ],
)
def test_bodies_that_are_no_study_are_refused(web, problem, fields, pointer, words) -> None:
    """Wrong or equal methods and seeds, too many jobs, a seed of the training and unknown fields answer 422."""
    answer = problem(web.client.post("/studies", json={**BODY, "model": "model_0", **fields}))
    assert (answer["status"], answer["code"], answer["errors"][0]["pointer"]) == (422, "invalid-request", pointer)
    assert words in answer["errors"][0]["detail"]


def test_the_preset_is_that_of_a_fine_tuning(web) -> None:
    """The preset sets the training of all methods, and the fields of FAAL that the request leaves out."""
    body = BODY | {"model": web.model(), "preset": "paper", "training": {"batch_size": 64}, "seeds": [5]}
    faal, uniform = (
        FinetuneSpec.model_validate(web.client.get(f"/jobs/{run['job']}").json()["spec"])
        for run in web.client.post("/studies", json=body).json()["runs"]
    )
    alone = {"preset": "paper", **SETTINGS, "training": {"batch_size": 64, "seed": 5}}
    assert faal == FinetuneSpec.model_validate(alone)
    assert uniform == FinetuneSpec.model_validate({**alone, "method": {"type": "uniform"}})


def test_the_page_of_a_study_shows_its_jobs_and_its_table(web) -> None:
    """The page tells methods of one name apart, and has each job and the table; a refresh has what changed; buttons work."""
    alike = {"methods": [{"type": "uniform"}, {"type": "uniform", "beta": 1}], "name": HOSTILE}
    made = web.client.post("/studies", json=BODY | {"model": web.model(), **alike}).json()
    address = f"/ui/studies/{made['id']}"
    page = web.client.get(address).text
    assert "0 of 4 jobs have ended" in page
    assert "Table of methods" not in page
    assert HOSTILE not in page
    assert all(f'href="/ui/jobs/{run["job"]}"' in page for run in made["runs"])
    assert all(page.count(f"UNIFORM (at), beta = {beta}") == 3 for beta in ("6.0", "1.0"))
    with Client(str(web.client.base_url)) as client:
        succeed(web, client, made["runs"][0]["job"])
    changes = web.client.get(f"{address}/course").text
    assert "1 of 4 jobs have ended" in changes
    assert "Without a report: 3 of 4 fine-tunings" in changes
    version = unescape(changes).partition('"version": "')[2].partition('"')[0]
    assert "Table of" not in web.client.get(f"{address}/course", params={"version": version}).text
    assert f'href="{address}"' in web.client.get(f"/ui/jobs/{made['runs'][0]['job']}").text
    for act, target in (("cancel", address), ("delete", "/")):
        answer = web.client.post(f"{address}/{act}")
        assert (answer.status_code, answer.headers["Location"]) == (303, target)
    assert web.client.get(address).status_code == 404
    assert web.client.get(f"/ui/jobs/{made['runs'][1]['job']}").status_code == 200


def test_studies_of_others_are_not_found(guarded_web, problem) -> None:
    """A key sees and changes the studies of its own owner alone, fine-tunes this owner's models, and needs `submit`."""
    web = guarded_web
    ann, ben = web.key("ann", Scope.READ, Scope.SUBMIT), web.key("ben", Scope.READ, Scope.SUBMIT)
    body = BODY | {"model": web.model(owner="ann")}
    assert problem(web.client.post("/studies", json=body, headers=ben))["code"] == "model-not-found"
    reader = web.key("ann", Scope.READ)
    assert problem(web.client.post("/studies", json=body, headers=reader))["code"] == "scope-missing"
    study = web.client.post("/studies", json=body, headers=ann).json()["id"]
    assert web.client.get("/studies", headers=ben).json()["data"] == []
    for method, path in (("GET", ""), ("GET", "/table"), ("POST", "/cancel"), ("DELETE", "")):
        answer = web.client.request(method, f"/studies/{study}{path}", headers=ben)
        assert problem(answer)["code"] == "study-not-found"
    assert web.client.get(f"/studies/{study}", headers=reader).json()["states"] == {"queued": 4}
