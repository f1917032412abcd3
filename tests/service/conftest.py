"""Fixtures of tests with real processes: installations, and what an undisturbed job reports there."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from jobs.states import JobState
from tests.service.processes import Site
from tests.service.small_jobs import submit_finetuning, timeless, untrained_weights


@pytest.fixture(scope="session")
def weights_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of an untrained network for three classes of grey images."""
    return untrained_weights(tmp_path_factory.mktemp("weights") / "untrained.safetensors")


@pytest.fixture
def open_site(tmp_path: Path) -> Iterator[Callable[..., Site]]:
    """Opens installations with the settings given and closes them after the test."""
    sites: list[Site] = []

    def opened(**settings: object) -> Site:
        sites.append(Site(tmp_path, **settings))
        return sites[-1]

    yield opened
    for site in sites:
        site.close()


@pytest.fixture
def served_site(request: pytest.FixtureRequest, open_site: Callable[..., Site]) -> Iterator[Site]:
    """An installation on PostgreSQL and Redis."""
    postgres = request.getfixturevalue("postgres")
    database = postgres.new_database()
    opened = open_site(database_url=postgres.url(database), broker_url=request.getfixturevalue("redis_url"))
    yield opened
    opened.close()
    postgres.drop_database(database)


@pytest.fixture(params=["sqlite and folder", "postgresql and redis"])
def site(request: pytest.FixtureRequest) -> Site:
    """An installation: the test runs once with nothing but files, and once with both servers."""
    if request.param == "sqlite and folder":
        return request.getfixturevalue("open_site")()
    return request.getfixturevalue("served_site")


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, weights_file: Path) -> Any:
    """What the fine-tuning reports when nothing happens to it, times left out."""
    site = Site(tmp_path_factory.mktemp("undisturbed"))
    site.worker()
    job_id = submit_finetuning(site, weights_file)
    site.queue.ring(job_id)
    assert site.ended(job_id).state is JobState.SUCCEEDED, site.tell()
    report = timeless(site.report(job_id))
    site.close()
    return report
