"""What a fine-tuning came to stands beside its state, in its colour, and never as a plain success."""

import re

import pytest

from faal_core.reports.finetune_documents import FinetuneReport
from jobs import control, lifecycle
from jobs.outcomes import StoredClassifier
from jobs.states import JobKind
from tests.sample_reports import sample_finetune
from tests.service.api.conftest import SPEC


def finetuned(web, outcome: str, falls: int, report: FinetuneReport) -> str:
    """Id of a fine-tuning that has succeeded with that outcome; it made a model unless it kept the original."""
    model = web.model()
    with web.site.sessions.begin() as session:
        job = control.submit(
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
        lifecycle.succeed(session, job.id, 1, report=report.model_dump_json(), result_model=made, finding=finding)
        return job.id


@pytest.mark.parametrize(
    ("outcome", "falls", "colour", "words"),
    [
        ("better", 0, "better", "better"),
        ("better", 2, "mixed", "better, with falls"),
        ("mixed", 1, "mixed", "better, with falls"),
        ("worse", 3, "worse", "worse"),
        ("unclear", 0, "unclear", "no clear change"),
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
    assert ("Download the new weights" in page) == (outcome != "kept-original")
    assert ("The original model, which was kept" in page) == (outcome == "kept-original")


def test_a_warning_before_the_training_is_shown(web) -> None:
    """A classifier that cannot be fine-tuned to a useful one is spoken of while the job runs."""
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
        lifecycle.record(session, job_id, 1, event=("reliability-warning", {"stage": "before", **warning}))
    page = web.client.get(f"/ui/jobs/{job_id}").text
    assert "<h3>Hardly trained &lt;so far&gt;.</h3><p>0 of 9. Train it.</p>" in page
