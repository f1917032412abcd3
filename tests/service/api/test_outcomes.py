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


def finish_finetuning(web, outcome: str, falls: int, report: FinetuneReport, has_trained_weights: bool = False) -> str:
    """Return the id of a fine-tuning that has succeeded with that outcome; it made a model unless it kept the original.

    Args:
        has_trained_weights: whether the trained weights, from which the models of candidates are made, are stored.
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
        new_weights = None if outcome == "kept-original" else StoredClassifier(file, SPEC, "d" * 64, name="new")
        finding = {"outcome": outcome, "falls": falls}
        result = {"report": report.model_dump_json(), "result_model": new_weights, "finding": finding}
        lifecycle.succeed(session, job.id, 1, **result, trained=file if has_trained_weights else None)
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
    """The job's page and the list show the outcome, green for "better" without falls only, and offer existing weights."""
    kept_candidate = 0 if outcome == "kept-original" else 3
    report = sample_finetune().model_copy(update={"outcome": outcome, "selected_candidate": kept_candidate})
    job_id = finish_finetuning(web, outcome, falls, report)
    job = web.client.get(f"/jobs/{job_id}").json()
    assert (job["status"], job["outcome"], job["falls"]) == ("succeeded", outcome, falls)
    page, table = web.client.get(f"/ui/jobs/{job_id}").text, web.client.get("/").text
    for document in (page, table):
        assert f'<span class="status">succeeded</span> <span class="status {colour}">{words}</span>' in re.sub(
            r"\s+", " ", document
        )
    assert 'class="status succeeded"' not in page
    assert f'<p class="verdict {text.tone(report)}">' in page
    assert ("the original weights</dd>" in page) == (outcome == "kept-original")
    assert ("Download the new weights" in page) == (outcome != "kept-original")
    assert ("The original model, which was kept" in page) == (outcome == "kept-original")


@pytest.mark.parametrize(("has_trained_weights", "candidates"), [(True, [1, 2, 4]), (False, [])])
def test_a_model_is_offered_only_where_it_can_be_made(web, has_trained_weights: bool, candidates: list[int]) -> None:
    """A candidate is offered only if trained weights are stored and it is neither the kept candidate nor the given model."""
    job_id = finish_finetuning(web, "better", 0, sample_finetune(), has_trained_weights)
    page = web.client.get(f"/ui/jobs/{job_id}").text
    assert [int(number) for number in re.findall(r'/candidates/(\d+)"><button>', page)] == candidates
    assert page.count(">The given model</a>") == 1
    assert '<th scope="row">3 <span class="muted">kept</span></th>' in page


def test_nothing_is_offered_once_the_given_model_was_deleted(web) -> None:
    """No candidate is offered once the given model was deleted, since its request would be refused; the result keeps its link."""
    job_id = finish_finetuning(web, "better", 0, sample_finetune(), has_trained_weights=True)
    given_model = web.client.get(f"/jobs/{job_id}").json()["model"]
    assert web.client.delete(f"/models/{given_model}").status_code in (200, 204)
    page = web.client.get(f"/ui/jobs/{job_id}").text
    assert ("Make a model" in page, "The given model" in page, ">Its model</a>" in page) == (False, False, True)


def test_a_warning_before_the_training_is_shown(web) -> None:
    """The warning that a classifier cannot be fine-tuned usefully is shown while the job runs, once for all attempts."""
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
