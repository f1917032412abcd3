"""Fixtures of tests with real processes: installations, and the report of a job without faults."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from jobs.states import JobState
from tests.servers import ObjectStore, PostgresServer
from tests.service.processes import FILES, SERVERS, Site
from tests.service.small_jobs import submit_finetuning, timeless, untrained_weights


@pytest.fixture(scope="session")
def weights_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return weights of an untrained network for three classes of grey images."""
    return untrained_weights(tmp_path_factory.mktemp("weights") / "untrained.safetensors")


@pytest.fixture
def open_site(tmp_path: Path) -> Iterator[Callable[..., Site]]:
    """Yield a function that opens installations with the given settings; close them after the test."""
    sites: list[Site] = []

    def open_new_site(**settings: object) -> Site:
        sites.append(Site(tmp_path, **settings))
        return sites[-1]

    yield open_new_site
    for site in sites:
        site.close()


@pytest.fixture
def served_site(servers: dict[str, str], open_site: Callable[..., Site]) -> Iterator[Site]:
    """Yield an installation on PostgreSQL, Redis and an object store."""
    open_new_site = open_site(**servers)
    yield open_new_site
    open_new_site.close()  # before its database goes


@pytest.fixture
def servers(postgres: PostgresServer, redis_url: str, object_store: ObjectStore) -> Iterator[dict[str, str]]:
    """Yield settings that name a fresh database, broker and object store, which machines share; they share nothing more."""
    database = postgres.new_database()
    yield {"database_url": postgres.url(database), "broker_url": redis_url, "store_url": object_store.new_url()}
    postgres.drop_database(database)


@pytest.fixture(params=[FILES, SERVERS])
def site(request: pytest.FixtureRequest) -> Site:
    """Return an installation: the test runs once with files only, and once with all servers."""
    if request.param == FILES:
        return request.getfixturevalue("open_site")()
    return request.getfixturevalue("served_site")


@pytest.fixture(scope="session")
def faultless_report(tmp_path_factory: pytest.TempPathFactory, weights_file: Path) -> Any:
    """Return the report of a fine-tuning without faults, without times."""
    site = Site(tmp_path_factory.mktemp("undisturbed"))
    site.worker()
    job_id = submit_finetuning(site, weights_file)
    site.queue.ring(job_id)
    assert site.wait_until_ended(job_id).state is JobState.SUCCEEDED, site.tell()
    report = timeless(site.report(job_id))
    site.close()
    return report
