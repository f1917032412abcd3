"""A fine-tuning's outcome is shown beside its state, in its own colour, and never as a plain success."""

import re

import pytest

from faal_core.reports import text
from faal_core.results.finetune_documents import FinetuneReport
from jobs import lifecycle
from jobs.results import StoredClassifier
from jobs.states import JobKind
from tests.job_steps import submit_job
from tests.sample_reports import sample_finetune
from tests.service.api.conftest import SPEC


def finetuned(web, outcome: str, falls: int, report: FinetuneReport, trained: bool = False) -> str:
    """Id of a fine-tuning that has succeeded with that outcome; it made a model unless it kept the original.

    Args:
        trained: whether the weights it trained are stored, which models of candidates are made from.
    """
    model = web.model()
    with web.site.sessions.begin() as session:
        job = submit_job(
            session,
            kind=JobKind.FINETUNE,
            model_id=model,
            dataset="fashion-mnist-subset",
            spec=report.spec.model_dump(mode="json"),
            owner="local",
        )
        lifecycle.claim(session, job.id, worker="test", lease_seconds=600)
        file = web.site.storage.put([b"new weights"], media_type="application/vnd.safetensors")
        made = None if outcome == "kept-original" else StoredClassifier(file, SPEC, "d" * 64, name="new")
        finding = {"outcome": outcome, "falls": falls}
        found = {"report": report.model_dump_json(), "result_model": made, "finding": finding}
        lifecycle.succeed(session, job.id, 1, **found, trained=file if trained else None)
        return job.id


@pytest.mark.parametrize(
    ("outcome", "falls", "colour", "words"),
    [
        ("better", 0, "better", "better"),
        ("better", 2, "mixed", "better, with falls"),
        ("mixed", 1, "mixed", "worst class better, mean or classes lower"),
        ("worse", 3, "worse", "worse"),
        ("unclear", 0, "unclear", "worst class not clearly better"),
        ("kept-original", 0, "kept-original", "kept the original"),
    ],
)
def test_the_outcome_stands_beside_the_state(web, outcome: str, falls: int, colour: str, words: str) -> None:
    """On the job's page and in the list; green is "better" without falls alone, and new weights are offered if there are any."""
    kept = 0 if outcome == "kept-original" else 3
    report = sample_finetune().model_copy(update={"outcome": outcome, "selected_candidate": kept})
    job_id = finetuned(web, outcome, falls, report)
    job = web.client.get(f"/jobs/{job_id}").json()
    assert (job["status"], job["outcome"], job["falls"]) == ("succeeded", outcome, falls)
    page, table = web.client.get(f"/ui/jobs/{job_id}").text, web.client.get("/ui/jobs").text
    for shown in (page, table):
        assert f'<span class="status">succeeded</span> <span class="status {colour}">{words}</span>' in re.sub(
            r"\s+", " ", shown
        )
    assert 'class="status succeeded"' not in page
    assert f'<p class="verdict {text.tone(report)}">' in page
    assert ("the original weights</dd>" in page) == (outcome == "kept-original")
    assert ("Download the new weights" in page) == (outcome != "kept-original")
    assert ("The original model, which was kept" in page) == (outcome == "kept-original")


@pytest.mark.parametrize(("trained", "offered"), [(True, [1, 2, 4]), (False, [])])
def test_a_model_is_offered_only_where_it_can_be_made(web, trained: bool, offered: list[int]) -> None:
    """Earlier fine-tunings stored no trained weights; the kept candidate and the given model are there already."""
    job_id = finetuned(web, "better", 0, sample_finetune(), trained)
    page = web.client.get(f"/ui/jobs/{job_id}").text
    assert [int(number) for number in re.findall(r'/candidates/(\d+)"><button>', page)] == offered
    assert page.count(">The given model</a>") == 1
    assert '<th scope="row">3 <span class="muted">kept</span></th>' in page


def test_nothing_is_offered_once_the_given_model_was_deleted(web) -> None:
    """A candidate has the given model's spec, so there is no button that would be refused; the result keeps its link."""
    job_id = finetuned(web, "better", 0, sample_finetune(), trained=True)
    given = web.client.get(f"/jobs/{job_id}").json()["model"]
    assert web.client.delete(f"/models/{given}").status_code in (200, 204)
    page = web.client.get(f"/ui/jobs/{job_id}").text
    assert ("Make a model" in page, "The given model" in page, ">Its model</a>" in page) == (False, False, True)


def test_a_warning_before_the_training_is_shown(web) -> None:
    """A classifier that cannot be fine-tuned to a useful one is spoken of while the job runs, once for all attempts."""
    job_id = web.client.post(
        "/jobs/finetune",
        json={"model": web.model(), "dataset": "fashion-mnist-subset", "threat": {"epsilon": "8/255"}},
    ).json()["id"]
    warning = {
        "code": "base-not-robust",
        "message": "Hardly trained <so far>.",
        "evidence": "0 of 9",
        "advice": "Train it.",
    }
    with web.site.sessions.begin() as session:
        lifecycle.claim(session, job_id, worker="test", lease_seconds=600)
        lifecycle.record_progress(session, job_id, 1, event=("reliability-warning", {"stage": "before", **warning}))
        lifecycle.release(session, job_id, 1, reason="worker-stopped")
        lifecycle.claim(session, job_id, worker="test", lease_seconds=600)
        lifecycle.record_progress(session, job_id, 2, event=("reliability-warning", {"stage": "before", **warning}))
    page = web.client.get(f"/ui/jobs/{job_id}").text
    assert page.count("<h3>Hardly trained &lt;so far&gt;.</h3><p>0 of 9. Train it.</p>") == 1
