"""A faulty installation: the errors of api, worker and the command for keys when they cannot start."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import text

from faal_core.evidence import create_key
from jobs.database import open_database, upgrade
from tests.servers import find_free_port
from tests.service.processes import ROOT

PROCESSES = (["api"], ["worker"], ["api.keys", "list"])


def refusal(arguments: list[str], data_dir: Path, **environment: str) -> str:
    """Return the only line that the process writes before it ends with the status 1."""
    own = {"FAAL_DATA_DIR": str(data_dir), "FAAL_PORT": "0"} | environment
    command = [sys.executable, "-m", *arguments]
    process = subprocess.run(
        command, cwd=ROOT, env=os.environ | own, capture_output=True, text=True, timeout=60, check=False
    )
    assert process.returncode == 1, process.stderr
    [line] = process.stderr.splitlines()
    return line


@pytest.mark.parametrize("arguments", PROCESSES, ids=" ".join)
def test_a_database_of_a_later_version_is_refused_in_one_line(tmp_path: Path, arguments: list[str]) -> None:
    """The one line of the error names both revisions."""
    url = f"sqlite:///{tmp_path}/faal.db"
    upgrade(url)
    sessions = open_database(url)
    with sessions.begin() as session:
        session.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    sessions.close()
    line = refusal(arguments, tmp_path)
    assert "A later version of FAAL has migrated the database, to revision 9999; this version knows" in line


@pytest.mark.parametrize("arguments", PROCESSES, ids=" ".join)
def test_a_database_that_does_not_answer_is_one_line_without_the_password(tmp_path: Path, arguments: list[str]) -> None:
    """The one line of the error names the address of the database and the cause, and not the password."""
    port = find_free_port()
    url = f"postgresql+psycopg://ann:s3cret@127.0.0.1:{port}/faal"
    line = refusal(arguments, tmp_path, FAAL_DATABASE_URL=url)
    assert f"ann:***@127.0.0.1:{port}/faal (FAAL_DATABASE_URL) cannot be used: connection failed" in line
    assert "s3cret" not in line


@pytest.mark.parametrize("arguments", PROCESSES, ids=" ".join)
def test_a_data_folder_that_cannot_be_written_to_is_one_line(tmp_path: Path, arguments: list[str]) -> None:
    """The one line of the error names the folder. A file has the folder's name here, so that root cannot write to it either."""
    (tmp_path / "file").touch()
    line = refusal(arguments, tmp_path / "file" / "data")
    assert f"The folder {tmp_path}/file/data cannot be written to: Not a directory." in line


@pytest.mark.parametrize("arguments", [*PROCESSES, ["alembic", "upgrade", "head"]], ids=" ".join)
def test_a_wrong_setting_is_one_line(tmp_path: Path, arguments: list[str]) -> None:
    """The one line of the error names the variable, and no default that depends on it."""
    line = refusal(arguments, tmp_path, FAAL_UPLOAD_LIMIT="0")
    assert "FAAL_UPLOAD_LIMIT='0': Input should be greater than or equal to 1." in line
    assert line.count("FAAL_") == 1


def test_a_short_secret_is_one_line(tmp_path: Path) -> None:
    """The service does not start with a secret that is short enough to guess, and does not show it."""
    line = refusal(["api"], tmp_path, FAAL_SECRET="s3cret")
    assert "FAAL_SECRET has fewer than 32 characters." in line
    assert "s3cret" not in line


def test_a_signing_key_that_others_may_read_is_one_line(tmp_path: Path) -> None:
    """The service does not start with a key that it cannot use; the line names the variable and the remedy."""
    create_key(tmp_path / "key.pem")
    (tmp_path / "key.pem").chmod(0o644)
    line = refusal(["api"], tmp_path, FAAL_SIGNING_KEY=str(tmp_path / "key.pem"))
    assert "FAAL_SIGNING_KEY: Other users may read the private key" in line
    assert "chmod 600" in line


@pytest.mark.parametrize(
    ("content", "fault"), [("def f(:", "nets.py is not valid Python"), ("x = 1", "has no public function")]
)
@pytest.mark.parametrize("arguments", PROCESSES[:2], ids=" ".join)
def test_a_wrong_file_of_networks_is_one_line(tmp_path: Path, arguments: list[str], content: str, fault: str) -> None:
    """The line names the variable and what is wrong with the file."""
    (tmp_path / "nets.py").write_text(content)
    line = refusal(arguments, tmp_path, FAAL_NETWORKS=str(tmp_path / "nets.py"))
    assert "FAAL_NETWORKS=" in line
    assert fault in line
