"""The list of jobs as a page and as JSON: the same filters and orders, kept in the addresses of its pages."""

import re
from html import unescape

import pytest

from faal_core.reports import text
from tests.sample_reports import sample_audit
from tests.service.api.test_pages import SHOWN, Elements


def list_ids(web, **parameters: object) -> list[str]:
    """Return the ids in the list as JSON."""
    answer = web.client.get("/jobs", params=parameters)
    assert answer.status_code == 200, answer.text
    return [job["id"] for job in answer.json()["data"]]


def read_ids(page: str) -> list[str]:
    """Return the ids of the jobs in the table of a page."""
    return re.findall(r'<th scope="row"><a href="/ui/jobs/(\w+)"', page)


def test_a_row_shows_the_settings_and_the_figures(web) -> None:
    """A row names model, data set, radius and attack; once there is a report, also the worst class, its rate and the mean."""
    model = web.model("street signs")
    job = web.audit(model, metadata={"test": "rows"}, attacks="fast")
    row = web.client.get("/", params={"metadata": "test:rows"}).text
    assert f'<a href="/ui/jobs/{job}">Audit: street signs</a><small>fashion-mnist-subset</small>' in row
    assert "8/255" in row
    assert "<small>fast</small>" in row
    assert " %<" not in row
    web.run(job)
    web.succeed(job)
    robust = sample_audit().robust
    worst = f'{text.percent(robust.worst.value)}<small class="class-name">{robust.worst_class}</small>'
    for page in (
        web.client.get("/", params={"metadata": "test:rows"}).text,
        web.client.get(f"/ui/jobs?job={job}").text,
    ):
        assert worst in page
        assert f">{text.percent(robust.mean.rate)}<" in page
    body = web.client.get(f"/jobs/{job}").json()
    assert (body["robust_worst"], body["worst_class"]) == (robust.worst.value, robust.worst_class)
    assert body["robust_mean"] == robust.mean.rate


@pytest.mark.parametrize(
    "filters",
    [
        {"search": "filtered"},
        {"search": "filtered", "kind": "finetune"},
        {"metadata": "test:filters", "status": "cancelled"},
        {"metadata": "test:filters", "kind": "audit", "order": "created"},
        {"metadata": "test:filters", "order": "-metadata.turn"},
        {"metadata": "test:filters", "order": "epsilon"},
        {"metadata": "test:filters", "order": "robust_worst"},
    ],
)
def test_page_and_api_filter_alike(web, filters: dict[str, str]) -> None:
    """The page and the API list the same jobs in the same order for the same filters."""
    if not list_ids(web, metadata="test:filters"):
        model = web.model("filtered")
        jobs = [
            web.audit(model, metadata={"test": "filters", "turn": turn}, threat={"epsilon": radius})
            for turn, radius in (("b", 0.2), ("c", 0.1), ("a", 0.3))
        ]
        web.client.post(f"/jobs/{jobs[0]}/cancel")
    ids = list_ids(web, checks=False, **filters)
    page = web.client.get("/", params=filters)
    assert read_ids(page.text) == ids
    assert len(ids) == {"finetune": 0, "cancelled": 1, "robust_worst": 0}.get(
        filters.get("kind", filters.get("status", filters.get("order", ""))), 3
    )
    if filters.get("order") == "-metadata.turn":
        turns = [web.client.get(f"/jobs/{job}").json()["metadata"]["turn"] for job in ids]
        assert turns == ["c", "b", "a"]
        assert '<option value="-metadata.turn" selected>turn, Z to A</option>' in page.text


def test_pages_keep_the_filters(web) -> None:
    """The pages of a filtered list follow one another by their links, and each job is on one of them."""
    model = web.model()
    jobs = [web.audit(model, metadata={"test": "pages & more"}, threat={"epsilon": 0.01}) for _ in range(45)]
    seen, address = [], "/?metadata=test%3Apages+%26+more&order=epsilon"
    while address:
        page = web.client.get(address).text
        seen.append(read_ids(page))
        following = re.search(r'<a href="([^"]*)" rel="next">', page)
        address = unescape(following[1]) if following else ""
    assert [len(ids) for ids in seen] == [20, 20, 5]
    assert [job for ids in seen for job in ids] == jobs
    assert 'href="/?metadata=test%3Apages+%26+more&amp;order=epsilon">First page' in page


def test_checks_are_hidden_until_they_are_shown(web) -> None:
    """Checks of uploads are not listed on the page, and a link of it lists them; the API lists them unless it is asked not to."""
    web.model("checked just now")
    page = web.client.get("/?search=checked+just+now").text
    assert read_ids(page) == []
    link = unescape(re.search(r'<a href="([^"]*checks=True[^"]*)"', page, re.IGNORECASE)[1])
    assert len(read_ids(web.client.get(link).text)) == 1
    assert len(list_ids(web, search="checked just now")) == 1
    assert list_ids(web, search="checked just now", checks=False) == []


@pytest.mark.parametrize(
    "parameters",
    [{"order": "name"}, {"order": "metadata."}, {"metadata": "ticket"}, {"search": "x" * 101}, {"search": "a\x00"}],
)
def test_wrong_filters_are_refused(web, problem, parameters) -> None:
    """A filter or an order that does not exist is refused, by the API and on the page."""
    assert problem(web.client.get("/jobs", params=parameters))["status"] == 422
    assert web.client.get("/", params=parameters).status_code == 422


def test_filters_are_only_text(web) -> None:
    """Hostile texts of a filter and of metadata appear as text only."""
    hostile = '<img src=x onerror=alert(1)>"\u202e'
    web.audit(metadata={"test": "hostile", "note": hostile})
    for parameters in ({"search": hostile}, {"metadata": f"note:{hostile}"}):
        page = web.client.get("/", params=parameters)
        assert not [tag for tag, _ in Elements(page).elements if tag == "img"], parameters
    assert f"note:{SHOWN}" in page.text
    assert len(read_ids(page.text)) == 1
    job_page = web.client.get(f"/ui/jobs/{read_ids(page.text)[0]}").text
    link = unescape(re.search(r'<a href="(/\?metadata=note[^"]*)"', job_page)[1])
    assert read_ids(web.client.get(link).text) == read_ids(page.text)
