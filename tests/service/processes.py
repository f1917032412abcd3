"""An installation for tests: its own database, broker and folder, and real processes on them that can be killed."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import kombu.pools
import pytest

from jobs import queries
from jobs.database import open_database, upgrade
from jobs.queue import Queue
from jobs.settings import Settings
from jobs.states import FINAL, JobKind, JobState
from jobs.storage import open_storage
from jobs.submission import Submission, submit
from jobs.tables import Job, JobEvent
from tests.servers import find_free_port
from tests.service.forked_services import ForkedService

ROOT = Path(__file__).parents[2]
START_SECONDS = 60.0
BUSY_SECONDS = 30.0  # a machine with other work may need as long for what takes a moment
JOB_SECONDS = 120.0

FILES, SERVERS = "sqlite and folder", "postgresql, redis and s3"
"""The two kinds of installation that most tests run on."""

servers_first = pytest.mark.parametrize("site", [pytest.param(FILES, marks=pytest.mark.slow), SERVERS], indirect=True)
files_first = pytest.mark.parametrize("site", [FILES, pytest.param(SERVERS, marks=pytest.mark.slow)], indirect=True)
"""Long tests run on one kind of installation in `make test`, and on the other in `make test-slow`."""


class SiteProcess:
    """A process of the installation, and its log."""

    def __init__(self, module: str, environment: dict[str, str], log: Path) -> None:
        self.log = log
        self._process: subprocess.Popen[bytes] | ForkedService
        if module == "api" and environment.get("PYTHONPATH") == os.environ.get("PYTHONPATH"):
            self._process = ForkedService(module, environment, log)
            return
        with log.open("ab") as output:
            command = [sys.executable, "-m", module]
            self._process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=output, stderr=output)

    @property
    def pid(self) -> int:
        """Return the process number."""
        return self._process.pid

    @property
    def jobs(self) -> list[int]:
        """Return the ids of its jobs' processes that are not reaped yet."""
        return [pid for pid in descendants(self._process.pid) if command_name(pid) == "faal-job"]

    @property
    def helpers(self) -> list[int]:
        """Return the ids of its processes that help with the jobs of other workers."""
        return [pid for pid in descendants(self._process.pid) if command_name(pid) == "faal-helper"]

    @property
    def running(self) -> bool:
        """Return whether it has not ended."""
        return self._process.poll() is None

    def kill(self) -> None:
        """Kill it, as by `kill -9`."""
        self._process.kill()
        self._process.wait()

    def stop(self, within_seconds: float = 30, signal_number: signal.Signals = signal.SIGTERM) -> int:
        """Send that signal, and return the exit status."""
        self._process.send_signal(signal_number)
        return self._process.wait(within_seconds)


class Site:
    """One installation. Its processes run with short leases and frequent sweeps, one thread each."""

    def __init__(self, folder: Path, **settings: object) -> None:
        defaults = {
            "data_dir": folder / "faal-data",
            "threads": 1,
            "lease_seconds": 6,
            "sweep_seconds": 1,
            "port": find_free_port(),
        }
        self.settings = Settings(**defaults | settings)
        self.folder = folder
        self._processes: list[SiteProcess] = []
        self._clients: list[httpx.Client] = []
        upgrade(self.settings.database_url)
        self.sessions = open_database(self.settings.database_url, pooled=False)
        self.storage = open_storage(self.settings)
        self.queue = Queue(self.settings)

    @property
    def environment(self) -> dict[str, str]:
        """Return the environment of this process together with the site's settings."""
        fields = self.settings.model_dump(exclude_none=True)
        return os.environ | {f"FAAL_{name.upper()}": str(value) for name, value in fields.items()}

    def start(self, module: str, **environment: str) -> SiteProcess:
        """Start a process of that module, with the site's settings and further variables."""
        process = SiteProcess(
            module, self.environment | environment, self.folder / f"{module}-{len(self._processes)}.log"
        )
        self._processes.append(process)
        return process

    def worker(self, **environment: str) -> SiteProcess:
        """Start a worker; messages wait for it."""
        return self.start("worker", **environment)

    def api(self, module: str = "api") -> tuple[SiteProcess, httpx.Client]:
        """Return a web service that answers, started by that module, and a client of it."""
        process = self.start(module)
        client = httpx.Client(base_url=f"http://127.0.0.1:{self.settings.port}", timeout=30)
        self._clients.append(client)

        def answers() -> bool:
            assert process.running, process.log.read_text()
            try:
                return client.get("/healthz").is_success
            except httpx.TransportError:
                return False

        wait_until(answers, START_SECONDS)
        return process, client

    def submit(self, spec: dict[str, Any], *, kind: JobKind, model: str, dataset: str) -> str:
        """Queue a job without a message to a worker, and return its id."""
        with self.sessions.begin() as session:
            submission = Submission(kind=kind, model_id=model, dataset=dataset, spec=spec, owner="local")
            job = submit(session, self.settings, submission)
        return job.id

    def job(self, job_id: str) -> Job:
        """Return the job as it is in the table."""
        with self.sessions() as session:
            return queries.find_job(session, job_id)

    def events(self, job_id: str, kind: str) -> list[JobEvent]:
        """Return the job's events of that kind."""
        with self.sessions() as session:
            return [event for event in queries.list_events(session, job_id, limit=10_000) if event.kind == kind]

    def report(self, job_id: str) -> str | None:
        """Return the job's report as stored."""
        with self.sessions() as session:
            row = queries.find_report(session, job_id)
        return None if row is None else row.document

    def wait_until_ended(self, job_id: str) -> Job:
        """Wait until the job has ended, and return it."""
        wait_until(lambda: self.job(job_id).state in FINAL, JOB_SECONDS, self.tell)
        return self.job(job_id)

    def wait_until_running(self, job_id: str, *, epochs: int = 0) -> Job:
        """Wait until the job runs and has that many epochs, and return it."""

        def far_enough() -> bool:
            job = self.job(job_id)
            assert job.state not in FINAL, f"{job.state}: {job.error}"
            return (
                job.state is JobState.RUNNING and job.done is not None and len(self.events(job_id, "epoch")) >= epochs
            )

        wait_until(far_enough, JOB_SECONDS, self.tell)
        return self.job(job_id)

    def tell(self) -> str:
        """Return the ends of all processes' logs, for a failing test."""
        return "\n".join(f"--- {path.name}\n{path.read_text()[-4000:]}" for path in sorted(self.folder.glob("*.log")))

    def close(self) -> None:
        """Stop all processes and close all connections."""
        for client in self._clients:
            client.close()
        for process in self._processes:
            if process.running:
                process.stop()
        kombu.pools.reset()  # what this process rang through
        self.sessions.close()


def wait_until(holds: Callable[[], bool], within_seconds: float, tell: Callable[[], str] = str) -> None:
    """Wait until `holds` returns true. Raises: AssertionError after `within_seconds`."""
    within_seconds = max(within_seconds, BUSY_SECONDS)
    deadline = time.monotonic() + within_seconds
    while not holds():
        assert time.monotonic() < deadline, f"not within {within_seconds} s\n{tell()}"
        time.sleep(0.05)


def descendants(pid: int) -> list[int]:
    """Return the ids of all processes below that one."""
    children: list[int] = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(FileNotFoundError, ProcessLookupError):
            children += map(int, task.read_text().split())
    return [*children, *(below for child in children for below in descendants(child))]


def command_name(pid: int) -> str:
    """Return the name of that process, as `ps` shows it; empty if there is none."""
    with suppress(FileNotFoundError, ProcessLookupError):
        return Path(f"/proc/{pid}/comm").read_text().strip()
    return ""


def command_line(pid: int) -> str:
    """Return the words of that process's command, between zero bytes; empty if there is none."""
    with suppress(FileNotFoundError, ProcessLookupError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode()
    return ""


def is_gone(pid: int) -> bool:
    """Return whether that process has ended, or is a zombie that waits to be reaped."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True
