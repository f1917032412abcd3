"""The guide is served as files, with the headers of all pages, once it has been built."""

from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from api.app import create_app
from api.pages.guide import FOLDER
from api.serving.middleware import HEADERS
from jobs.settings import Settings


@pytest.fixture
def client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TestClient:
    """Return a client of a service that runs in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return TestClient(create_app(Settings(data_dir=tmp_path / "data")), base_url="http://localhost")


def test_without_a_build_the_answer_says_how_to_make_one(client: TestClient) -> None:
    """Without a built guide the answer is a problem that names the command to build it."""
    answer = client.get("/guide/")
    assert (answer.status_code, answer.json()["code"]) == (404, "not-found")
    assert "make docs" in answer.json()["detail"]


def test_the_guide_is_served_without_a_restart(client: TestClient, tmp_path: Path) -> None:
    """Pages that are built while the service runs are served, under the policy of all pages; other addresses are problems."""
    client.get("/guide/")
    (tmp_path / FOLDER / "how-to").mkdir(parents=True)
    (tmp_path / FOLDER / "index.html").write_text("<h1>Guide</h1>")
    (tmp_path / FOLDER / "how-to/data.html").write_text("<h1>Data</h1>")
    for address, text in (("/guide", "Guide"), ("/guide/", "Guide"), ("/guide/how-to/data.html", "Data")):
        answer = client.get(address)
        assert (answer.status_code, text in answer.text) == (200, True)
        assert answer.headers["Content-Security-Policy"] == HEADERS["Content-Security-Policy"]
    assert client.get("/guide/none.html").json()["code"] == "not-found"
    assert client.get("/guide/..%2f..%2fdata/secret").status_code == 404


def test_every_page_links_to_the_guide() -> None:
    """The frame of the pages has a link to it, and so has the page of a problem."""
    templates = Path(__file__).parents[4] / "api/pages/templates"
    assert 'href="/guide/"' in (templates / "base.html").read_text("utf-8")
    assert 'href="/guide/reference/problems.html"' in (templates / "problem_type.html").read_text("utf-8")
