"""An installation whose servers and processes fail at random, and come back as an operator's restarts would bring them back."""

import logging
import os
import random
import signal
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from pathlib import Path

import psycopg
import redis

from jobs.content import digest_from_path
from tests.servers import ObjectStore, find_free_port, object_store, postgres_folder, postgres_in, redis_server
from tests.service.processes import START_SECONDS, Site, SiteProcess, command_line, wait_until
from tests.storage_contents import list_places, overwrite, read_content

# Names of faults, and how often one is drawn beside the others.
FAULTS = {
    "job process killed": 6,
    "worker killed": 3,
    "worker frozen past its lease": 2,
    "worker with a wrong clock": 1,
    "web service killed": 2,
    "database killed": 1,
    "database stopped": 1,
    "database frozen": 2,
    "database without connections": 2,
    "broker stopped": 2,
    "broker full": 2,
    "store refuses": 1,
    "store frozen": 1,
    "stored file damaged": 2,
    "disk full": 2,
}
_CRASHES = ("job process killed", "worker killed", "worker frozen past its lease", "worker with a wrong clock")
_DISK = "48m"  # for the spool and the checkpoints of all workers
WORKERS = 2
_DAYS_WRONG = (-2, 2)  # further than anything in a site waits for
_WRONG_CLOCK = """
import datetime, time
right, wrong = time.time, datetime.timedelta(days={days})
time.time = lambda: right() + wrong.total_seconds()
class Datetime(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return super().now(tz) + wrong
datetime.datetime = Datetime
"""


class Servers:
    """PostgreSQL, Redis and an object store of this test alone. All keep their addresses; Redis loses its data."""

    def __init__(self, stack: ExitStack) -> None:
        self._folder, self._port = stack.enter_context(postgres_folder()), find_free_port()
        self._database, self._broker = (stack.enter_context(ExitStack()) for _ in range(2))
        self._postgres = self._database.enter_context(postgres_in(self._folder))
        self.store: ObjectStore = stack.enter_context(object_store())
        self.settings = {
            "database_url": self._postgres.url(self._postgres.new_database()),
            "broker_url": self._broker.enter_context(redis_server(self._port)),
            "store_url": self.store.new_url(),
        }

    @contextmanager
    def without_database(self, *, kill: bool) -> Iterator[None]:
        """Stop PostgreSQL for the block; with `kill`, it cannot end its sessions or write what it has in memory."""
        if kill:
            self._postgres.process.send_signal(signal.SIGQUIT)
            self._postgres.process.wait()
        self._database.close()
        yield
        self._postgres = self._database.enter_context(postgres_in(self._folder))

    @contextmanager
    def without_broker(self) -> Iterator[None]:
        """Stop Redis for the block, so that all messages are lost."""
        self._broker.close()
        yield
        self._broker.enter_context(redis_server(self._port))

    @contextmanager
    def frozen_database(self) -> Iterator[None]:
        """Freeze PostgreSQL for the block: it accepts connections and statements and answers none."""
        processes = [self._postgres.process.pid, *_children(self._postgres.process.pid)]
        for pid in processes:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGSTOP)
        yield
        for pid in processes:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)

    @contextmanager
    def without_connections(self) -> Iterator[None]:
        """Take every spare connection of PostgreSQL for the block, as soon as it is free."""
        finish = threading.Event()
        thread = threading.Thread(target=self._take_connections, args=[finish])
        thread.start()
        yield
        finish.set()
        thread.join()

    def _take_connections(self, finish: threading.Event) -> None:
        with ExitStack() as connections:
            while not finish.wait(0.02):
                with suppress(psycopg.OperationalError):
                    while not finish.is_set():
                        connections.enter_context(
                            psycopg.connect(self.settings["database_url"].replace("+psycopg", ""))
                        )

    @contextmanager
    def full_broker(self) -> Iterator[None]:
        """Leave Redis without memory for the block, so that it refuses all writes."""
        with redis.Redis.from_url(self.settings["broker_url"]) as server:
            server.config_set("maxmemory", "1mb")
            yield
            server.config_set("maxmemory", "0")


class Faulty:
    """The site's workers and web service, which are restarted when they die, and the faults that are injected.

    Attributes:
        injected: the number of injected faults of each kind.
        crashes: the number of faults of each job's own process.
        ready_since: the time since which each worker, by process id, waits for jobs; frozen and dead ones are absent.
        whole_since: the time since which all servers run; None while one does not.
    """

    def __init__(self, site: Site, servers: Servers, chance: random.Random) -> None:
        self._site, self._servers, self._chance = site, servers, chance
        self.injected: Counter[str] = Counter()
        self.crashes: Counter[str] = Counter()
        self.ready_since: dict[int, float] = {}
        self.whole_since: float | None = time.monotonic()
        self._api, _ = site.api()
        self._workers = [site.worker() for _ in range(WORKERS)]
        self._frozen: dict[int, float] = {}  # which worker is woken when

    def inject(self) -> None:
        """Choose a fault at random and cause it; it has ended when this method returns, except for a worker's sleep."""
        names = list(FAULTS)
        if self._frozen:
            names.remove("worker frozen past its lease")
        if not self._site.settings.data_dir.is_mount():
            names.remove("disk full")
        name = self._chance.choices(names, [FAULTS[name] for name in names])[0]
        self.injected[name] += self._happened(name)

    def tend(self) -> None:
        """Start dead processes again, wake workers that slept long enough, and record the ready ones."""
        for index, worker in enumerate(self._workers):
            if worker.pid in self._frozen and time.monotonic() > self._frozen[worker.pid]:
                del self._frozen[worker.pid]
                _tell(worker, signal.SIGCONT)
            if not worker.running:
                self.ready_since.pop(worker.pid, None)
                self._workers[index] = self._site.worker()
            elif not self._sleeps(worker) and worker.pid not in self.ready_since and _is_ready(worker):
                self.ready_since[worker.pid] = time.monotonic()
        if not self._api.running:
            self._api = self._site.start("api")

    def rest(self) -> None:
        """Wake all workers."""
        self._frozen = dict.fromkeys(self._frozen, 0.0)
        self.tend()

    def _happened(self, name: str) -> bool:
        """Attempt the fault, and return whether there was a process for it."""
        worker = self._chance.choice(self._workers)
        short, long = self._chance.uniform(0.2, 3), self._chance.uniform(2, 15)  # the latter beyond most time-outs
        if name in _CRASHES:
            self.crashes.update(_jobs_of(worker))
        match name:
            case "job process killed":
                return self._kill_job(worker)
            case "worker killed" if not self._sleeps(worker):
                self._kill(worker)
            case "worker frozen past its lease" if worker.jobs:
                self.ready_since.pop(worker.pid, None)
                self._frozen[worker.pid] = time.monotonic() + 1.5 * self._site.settings.lease_seconds
                _tell(worker, signal.SIGSTOP)
            case "worker with a wrong clock" if not self._sleeps(worker):
                self._kill(worker)
                wrong = self._chance.choice(_DAYS_WRONG)
                self._workers[self._workers.index(worker)] = self._site.worker(**_clock(self._site.folder, wrong))
            case "web service killed" if self._api.running:
                self._api.kill()
            case "database killed" | "database stopped":
                self._while(self._servers.without_database(kill=name == "database killed"), short)
            case "database frozen":
                self._while(self._servers.frozen_database(), long)
            case "database without connections":
                self._while(self._servers.without_connections(), long)
            case "broker full":
                self._while(self._servers.full_broker(), short)
            case "stored file damaged":
                self._while(self._damaged_file(), short)
            case "disk full":
                self._while(_full(self._site.settings.data_dir), short)
            case "broker stopped":
                self._while(self._servers.without_broker(), short)
            case "store refuses":
                self._while(self._servers.store.require_credentials(), short)
            case "store frozen":
                self._while(_frozen(self._servers.store.process.pid), short)
            case _:
                return False
        return True

    def _sleeps(self, worker: SiteProcess) -> bool:
        return worker.pid in self._frozen

    def _kill(self, worker: SiteProcess) -> None:
        self.ready_since.pop(worker.pid, None)
        worker.kill()

    def _kill_job(self, worker: SiteProcess) -> bool:
        victims = worker.jobs
        for pid in victims:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return bool(victims)

    @contextmanager
    def _damaged_file(self) -> Iterator[None]:
        """Change one byte of a stored file for the block; restore it afterwards, unless it was stored again."""
        storage = self._site.storage
        sha256 = self._chance.choice(sorted(filter(None, map(digest_from_path, list_places(storage)))))
        whole = read_content(storage, sha256)
        content = bytearray(whole)
        content[self._chance.randrange(len(whole))] ^= 1
        overwrite(storage, whole, bytes(content))
        yield
        if storage.exists(sha256) and read_content(storage, sha256) == content:
            storage.put([whole], media_type="application/octet-stream")

    def _while(self, outage: AbstractContextManager[None], seconds: float) -> None:
        """Keep the outage for `seconds`."""
        self.whole_since = None
        with outage:
            time.sleep(seconds)
        self.whole_since = time.monotonic()


@contextmanager
def faulty_site(folder: Path, chance: random.Random, **settings: object) -> Iterator[tuple[Site, Faulty]]:
    """Yield an installation on servers of its own, with all its processes running."""
    with ExitStack() as stack:
        servers = Servers(stack)
        environment = dict(os.environ)
        os.environ.update(servers.store.environment)
        stack.callback(os.environ.update, environment)
        site = Site(folder, **servers.settings, **settings)
        stack.callback(subprocess.run, ["umount", site.settings.data_dir], stderr=subprocess.DEVNULL, check=False)
        site.settings.data_dir.mkdir(exist_ok=True)
        disk = ["mount", "-t", "tmpfs", "-o", f"size={_DISK}", "tmpfs", site.settings.data_dir]
        if subprocess.run(disk, stderr=subprocess.DEVNULL, check=False).returncode:  # only root may mount one
            logging.getLogger(__name__).warning("the disk cannot be made full here")
        stack.callback(site.close)
        faulty = Faulty(site, servers, chance)
        stack.callback(faulty.rest)
        wait_until(lambda: _all_ready(faulty), START_SECONDS, site.tell)
        yield site, faulty


def _all_ready(faulty: Faulty) -> bool:
    faulty.tend()
    return len(faulty.ready_since) == WORKERS


def _is_ready(worker: SiteProcess) -> bool:
    return b" ready." in worker.log.read_bytes()


def _clock(folder: Path, days: int) -> dict[str, str]:
    """Return the environment in which Python's clock is wrong by `days`."""
    place = folder / f"clock{days:+}"
    place.mkdir(exist_ok=True)
    (place / "sitecustomize.py").write_text(_WRONG_CLOCK.format(days=days))
    return {"PYTHONPATH": str(place)}


def _tell(worker: SiteProcess, number: signal.Signals) -> None:
    """Send the signal to the worker, then to all processes that it has started."""
    pids = [worker.pid]
    for pid in pids:
        with suppress(ProcessLookupError):  # it has ended
            pids += _children(pid)
            os.kill(pid, number)


def _children(pid: int) -> list[int]:
    """Return the ids of the processes that this one has started and that have not ended."""
    with suppress(FileNotFoundError, ProcessLookupError):
        tasks = Path(f"/proc/{pid}/task").glob("*/children")
        return [int(child) for task in tasks for child in task.read_text().split()]
    return []


def _jobs_of(worker: SiteProcess) -> list[str]:
    """Return the ids of the jobs whose processes the worker has started."""
    words = (word for pid in worker.jobs for word in command_line(pid).split("\0"))
    return [word for word in words if word.startswith("job_")]


@contextmanager
def _full(folder: Path) -> Iterator[None]:
    """Fill the disk of that folder for the block."""
    ballast = folder / "ballast"
    with suppress(OSError), ballast.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(2**16))
    yield
    ballast.unlink()


@contextmanager
def _frozen(pid: int) -> Iterator[None]:
    os.kill(pid, signal.SIGSTOP)
    yield
    os.kill(pid, signal.SIGCONT)
