"""A site consists of its database, its files and its secret, as docs/how-to/backup.md states."""

import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import make_url

from faal_client.vocabulary import Scope
from tests.servers import PostgresServer
from tests.service.api.conftest import AUDIT, Web
from tests.service.processes import Site


def copy_database(url: str, folder: Path, postgres: PostgresServer | None) -> str:
    """Return the URL of a new database that holds a backup of the given one."""
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
    """A restored site has its keys, models with their weights, jobs with reports and outcomes, and accepts the next job."""
    postgres = request.getfixturevalue("postgres") if database == "postgresql" else None
    place = {} if postgres is None else {"database_url": postgres.url(postgres.new_database())}
    site = open_site(**place)
    process, client = site.api()
    web = Web(site, process, client)
    bearer = web.key("ann", Scope.READ, Scope.SUBMIT)
    body = AUDIT | {"model": web.model(owner="ann")}
    job = client.post("/jobs/audit", headers=bearer, json=body).json()["id"]
    web.run(job)
    report = web.succeed(job, audit=b"outcomes of images")
    weights = client.get(f"/models/{body['model']}/weights", headers=bearer).content

    backup = tmp_path / "backup"
    database_url = copy_database(site.settings.database_url, tmp_path, postgres)
    shutil.copytree(site.settings.files_dir, backup / "files", ignore=shutil.ignore_patterns("incoming"))
    shutil.copy(site.settings.data_dir / "secret", backup / "secret")
    process.kill()
    shutil.rmtree(site.settings.data_dir)

    _, again = open_site(data_dir=backup, database_url=database_url).api()
    assert again.get(f"/jobs/{job}/report", headers=bearer).text == report
    assert again.get(f"/jobs/{job}/outcomes", headers=bearer).content == b"outcomes of images"
    assert again.get(f"/models/{body['model']}/weights", headers=bearer).content == weights
    assert again.get("/jobs").status_code == 401
    assert again.post("/jobs/audit", headers=bearer, json=body).status_code == 202
