"""`python -m api`: how the service starts, which processes it starts, and how it stops."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.servers import find_free_port
from tests.service.processes import ROOT, SiteProcess, is_gone, wait_until


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """Return settings of a fresh installation, in which nothing exists, not even a database."""
    own = {"FAAL_DATA_DIR": str(tmp_path / "faal-data"), "FAAL_PORT": str(find_free_port()), "FAAL_THREADS": "1"}
    return {name: value for name, value in os.environ.items() if not name.startswith("FAAL_")} | own


@pytest.fixture
def service(environment: dict[str, str], tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Yield a ready `python -m api --with-worker`."""
    with (tmp_path / "log").open("wb") as log:
        command = [sys.executable, "-m", "api", "--with-worker"]
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log)
    try:
        wait_until(lambda: _ready(environment["FAAL_PORT"]), 60, (tmp_path / "log").read_text)
        yield process
    finally:
        if process.poll() is None:
            process.terminate()
        process.wait(60)


def _ready(port: str) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/readyz").is_success
    except httpx.TransportError:
        return False


def _workers(process: subprocess.Popen[bytes]) -> list[int]:
    tasks = Path(f"/proc/{process.pid}/task").glob("*/children")
    return [int(pid) for task in tasks for pid in task.read_text().split()]


def test_one_command_serves_with_a_worker(service) -> None:
    """The service starts in an empty folder, replaces a killed worker, and ends with its worker on SIGTERM, with status 0."""
    [worker] = _workers(service)
    os.kill(worker, signal.SIGKILL)
    wait_until(lambda: _workers(service) not in ([], [worker]), 30)
    [worker] = _workers(service)
    service.send_signal(signal.SIGTERM)
    assert service.wait(60) == 0
    assert is_gone(worker)


def test_ctrl_c_ends_both(service) -> None:
    """SIGINT, as Ctrl-C sends it, ends the service and its worker without a traceback, with its own status."""
    [worker] = _workers(service)
    service.send_signal(signal.SIGINT)
    assert service.wait(60) == 0
    assert is_gone(worker)


def test_an_old_schema_is_not_served(environment, postgres, tmp_path) -> None:
    """On PostgreSQL the service refuses to start before the migrations were run, and states the command to run."""
    database = postgres.new_database()
    log = tmp_path / "log"
    process = SiteProcess("api", environment | {"FAAL_DATABASE_URL": postgres.url(database)}, log)
    wait_until(lambda: not process.running, 60)
    assert process.stop() == 1
    assert "alembic upgrade head" in log.read_text()
    postgres.drop_database(database)
