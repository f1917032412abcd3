"""The list of jobs offers a comparison of finished audits."""

from datetime import UTC, datetime

from api.pages.list_query import ListQuery
from api.pages.templating import templates
from api.pages.views import JobView, offers_comparison
from faal_client.resources.objects import JobResource
from jobs.states import JobKind, JobState


def make_view(job_id: str, kind: JobKind, state: JobState) -> JobView:
    """Return a job of a list."""
    fields = dict.fromkeys(JobResource.model_fields) | {"id": job_id, "kind": kind, "status": state, "spec": {}}
    return JobView(JobResource.model_construct(**fields | {"created_at": datetime.now(UTC)}), "digits", "mnist")


def make_table(*views: JobView) -> str:
    """Return the list of these jobs as HTML."""
    filling = {
        "views": views,
        "query": ListQuery(),
        "orders": {},
        "following": None,
        "poll_address": "",
        "running": False,
        "has_choices": offers_comparison(views),
        "chosen_jobs": (),
        "comparison_problem": None,
    }
    return templates.get_template("job_table.html").render(filling)


def test_only_finished_audits_can_be_compared() -> None:
    """Each finished audit and fine-tuning has a box that sends its id, also beside a running one; a single one has none."""
    views = [
        make_view("job_1", JobKind.AUDIT, JobState.SUCCEEDED),
        make_view("job_2", JobKind.AUDIT, JobState.RUNNING),
        make_view("job_3", JobKind.FINETUNE, JobState.SUCCEEDED),
        make_view("job_4", JobKind.COMPARE, JobState.SUCCEEDED),
    ]
    table = make_table(*views)
    assert '<form method="post" action="/ui/comparisons">' in table
    assert [name for name in ("job_1", "job_2", "job_3", "job_4") if f'name="job" value="{name}"' in table] == [
        "job_1",
        "job_3",
    ]
    assert "Compare the chosen audits" in table
    assert make_table(*views[:2]).count("checkbox") == 1
    assert "checkbox" not in make_table(views[0], views[3])
