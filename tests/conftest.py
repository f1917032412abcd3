"""Fixtures for every test: real databases, a real broker, and settings of a temporary site."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest
import redis

from jobs.database import Sessions, open_database, upgrade
from jobs.settings import Settings
from jobs.storage import FolderStorage, ObjectStorage, Storage
from tests.servers import ObjectStore, PostgresServer, object_store, postgres_server, redis_server

_MEMORY = Path("/dev/shm")
_ROOM = 4 * 2**30  # bytes; temporary files of all tests together take less

# Tests make thousands of small files and databases that nobody needs afterwards. Tests of databases take twice as long on a disk.
if "TMPDIR" not in os.environ and _MEMORY.is_dir() and shutil.disk_usage(_MEMORY).free >= _ROOM:
    os.environ["TMPDIR"] = tempfile.tempdir = str(_MEMORY)

# On a busy machine an example takes as long as it takes.
hypothesis.settings.register_profile("patient", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("patient")


def pytest_xdist_auto_num_workers() -> int:
    """Run one test more at once than there are processors: tests often wait for servers and workers."""
    return len(os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)) + 1


@pytest.fixture(scope="session", autouse=True)
def _clear_environment() -> Iterator[None]:
    """Remove settings from the environment, so that tests see the defaults."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith(("FAAL_", "AWS_"))]:
            patch.delenv(name)
        yield


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """Yield a PostgreSQL server for the whole session; the first test that needs it starts it."""
    with postgres_server() as server:
        yield server


@pytest.fixture(scope="session")
def _redis_url() -> Iterator[str]:
    """Yield the URL of a Redis server for the whole session."""
    with redis_server() as url:
        yield url


@pytest.fixture
def redis_url(_redis_url: str) -> str:
    """Return the URL of an empty Redis server."""
    with redis.Redis.from_url(_redis_url) as client:
        client.flushall()
    return _redis_url


@pytest.fixture(scope="session", name="object_store")
def _object_store() -> Iterator[ObjectStore]:
    """Yield an object store for the whole session; the variables `AWS_…` point to it."""
    with object_store() as server, pytest.MonkeyPatch.context() as patch:
        for name, value in server.environment.items():
            patch.setenv(name, value)
        yield server


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Yield the URL of a fresh database: the test runs once on SQLite and once on PostgreSQL.

    It is empty, unless the test also asks for `sessions`.
    """
    migrated = "sessions" in request.fixturenames
    if request.param == "sqlite":
        if migrated:
            shutil.copy(request.getfixturevalue("migrated_file"), tmp_path / "faal.db")
        yield f"sqlite:///{tmp_path / 'faal.db'}"
        return
    server: PostgresServer = request.getfixturevalue("postgres")
    name = server.new_database(request.getfixturevalue("migrated_name")) if migrated else server.new_database()
    yield server.url(name)
    server.drop_database(name)


@pytest.fixture(scope="session")
def migrated_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return an SQLite database with the current schema and no rows, which tests copy: all migrations take half a second."""
    file = tmp_path_factory.mktemp("migrated") / "faal.db"
    upgrade(f"sqlite:///{file}")
    return file


@pytest.fixture(scope="session")
def migrated_name(postgres: PostgresServer) -> str:
    """Return the name of such a database in PostgreSQL."""
    name = postgres.new_database()
    upgrade(postgres.url(name))
    return name


@pytest.fixture
def sessions(database_url: str) -> Iterator[Sessions]:
    """Yield sessions on a fresh database with the current schema."""
    database = open_database(database_url)
    yield database
    database.close()


@pytest.fixture
def storage(request: pytest.FixtureRequest, database_url: str, tmp_path: Path) -> Storage:
    """Return an empty storage: a folder beside SQLite, an object store beside PostgreSQL."""
    if database_url.startswith("sqlite"):
        return FolderStorage(tmp_path / "files")
    store: ObjectStore = request.getfixturevalue("object_store")
    return ObjectStorage(store.new_url(), tmp_path / "spool", patience_seconds=1)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Return settings of a site that keeps all files in a temporary folder."""
    return Settings(data_dir=tmp_path / "faal-data")
