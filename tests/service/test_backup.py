"""A site is its database, its files and its secret: docs/how-to/backup.md, tried."""

import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import make_url

from jobs.keys import Scope
from tests.servers import PostgresServer
from tests.service.api.conftest import AUDIT, Web
from tests.service.processes import Site


def copy_database(url: str, folder: Path, postgres: PostgresServer | None) -> str:
    """Return the URL of a new database that holds what a backup of that one does."""
    database = str(make_url(url).database)
    if postgres is not None:
        return postgres.url(postgres.copy(database, folder / "faal.dump"))
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("VACUUM INTO ?", (str(folder / "copy.db"),))
    return f"sqlite:///{folder / 'copy.db'}"


@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
def test_a_restored_site_has_everything(
    request: pytest.FixtureRequest, open_site: Callable[..., Site], tmp_path: Path, database: str
) -> None:
    """Keys, models with their weights, jobs and reports are there again, and the next job is taken in."""
    postgres = request.getfixturevalue("postgres") if database == "postgresql" else None
    place = {} if postgres is None else {"database_url": postgres.url(postgres.new_database())}
    site = open_site(**place)
    process, client = site.api()
    web = Web(site, process, client)
    bearer = web.key("ann", Scope.READ, Scope.SUBMIT)
    about = AUDIT | {"model": web.model(owner="ann")}
    job = client.post("/jobs/audit", headers=bearer, json=about).json()["id"]
    web.run(job)
    report = web.succeed(job)
    weights = client.get(f"/models/{about['model']}/weights", headers=bearer).content

    backup = tmp_path / "backup"
    restored = copy_database(site.settings.database_url, tmp_path, postgres)
    shutil.copytree(site.settings.files_dir, backup / "files", ignore=shutil.ignore_patterns("incoming"))
    shutil.copy(site.settings.data_dir / "secret", backup / "secret")
    process.kill()
    shutil.rmtree(site.settings.data_dir)

    _, again = open_site(data_dir=backup, database_url=restored).api()
    assert again.get(f"/jobs/{job}/report", headers=bearer).text == report
    assert again.get(f"/models/{about['model']}/weights", headers=bearer).content == weights
    assert again.get("/jobs").status_code == 401
    assert again.post("/jobs/audit", headers=bearer, json=about).status_code == 202
