"""The list of jobs offers a comparison of finished audits as soon as there is a page that compares them."""

from datetime import UTC, datetime

import pytest

from api.pages.list_query import ListQuery
from api.pages.templating import templates
from api.pages.views import JobView
from faal_client.resources.objects import JobResource
from jobs.states import JobKind, JobState


def make_view(job_id: str, kind: JobKind, state: JobState) -> JobView:
    """Return a job of a list."""
    fields = dict.fromkeys(JobResource.model_fields) | {"id": job_id, "kind": kind, "status": state, "spec": {}}
    return JobView(JobResource.model_construct(**fields | {"created_at": datetime.now(UTC)}), "digits", "mnist")


@pytest.mark.parametrize("address", [None, "/compare"])
def test_only_finished_audits_can_be_compared(monkeypatch: pytest.MonkeyPatch, address: str | None) -> None:
    """Each finished audit has a box that sends its id to the page that compares; without such a page there is none."""
    monkeypatch.setitem(templates.env.globals, "COMPARE", address)
    views = [
        make_view("job_1", JobKind.AUDIT, JobState.SUCCEEDED),
        make_view("job_2", JobKind.AUDIT, JobState.RUNNING),
        make_view("job_3", JobKind.FINETUNE, JobState.SUCCEEDED),
    ]
    filling = {
        "views": views,
        "query": ListQuery(),
        "orders": {},
        "following": None,
        "poll_address": "",
        "running": False,
    }
    table = templates.get_template("job_table.html").render(filling)
    assert ('<form method="get" action="/compare">' in table) is (address is not None)
    assert table.count('type="checkbox"') == table.count('name="job" value="job_1"') == (address is not None)
    assert ("Compare the chosen audits" in table) is (address is not None)
