"""An installation whose servers and processes fail by chance, and come back as an operator's restarts would bring them back."""

import os
import random
import signal
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from pathlib import Path

from tests.servers import ObjectStore, free_port, object_store, postgres_folder, postgres_in, redis_server
from tests.service.processes import START_SECONDS, Running, Site, until

# Names of faults, and how often one is drawn beside the others.
FAULTS = {
    "job process killed": 6,
    "worker killed": 3,
    "worker frozen past its lease": 2,
    "worker with a wrong clock": 1,
    "web service killed": 2,
    "database killed": 1,
    "database stopped": 1,
    "broker stopped": 2,
    "store refuses": 1,
    "store frozen": 1,
}
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
    """PostgreSQL, Redis and an object store of this test alone. All keep their addresses; only Redis forgets."""

    def __init__(self, stack: ExitStack) -> None:
        self._folder, self._port = stack.enter_context(postgres_folder()), free_port()
        self._database, self._broker = (stack.enter_context(ExitStack()) for _ in range(2))
        self._postgres = self._database.enter_context(postgres_in(self._folder))
        self.store: ObjectStore = stack.enter_context(object_store())
        self.settings = {
            "database_url": self._postgres.url(self._postgres.new_database()),
            "broker_url": self._broker.enter_context(redis_server(self._port)),
            "store_url": self.store.new_url(),
        }

    @contextmanager
    def without_database(self, *, killed: bool) -> Iterator[None]:
        """Within, PostgreSQL is not there; killed, it had no time to end its sessions or write what it had in memory."""
        if killed:
            self._postgres.process.send_signal(signal.SIGQUIT)
            self._postgres.process.wait()
        self._database.close()
        yield
        self._postgres = self._database.enter_context(postgres_in(self._folder))

    @contextmanager
    def without_broker(self) -> Iterator[None]:
        """Within, Redis is not there, and all messages are lost."""
        self._broker.close()
        yield
        self._broker.enter_context(redis_server(self._port))


class Faulty:
    """The site's workers and web service, which are started again when they die, and the faults that befall them.

    Attributes:
        injected: how often which fault came.
        ready_since: since when the worker of that process number waits for jobs; frozen and dead ones are not in it.
        whole_since: since when all servers are there; None while one is not.
    """

    def __init__(self, site: Site, servers: Servers, chance: random.Random) -> None:
        self._site, self._servers, self._chance = site, servers, chance
        self.injected: Counter[str] = Counter()
        self.ready_since: dict[int, float] = {}
        self.whole_since: float | None = time.monotonic()
        self._api, _ = site.api()
        self._workers = [site.worker() for _ in range(WORKERS)]
        self._frozen: dict[int, float] = {}  # which worker is woken when

    def inject(self) -> None:
        """One more fault, whichever it is by chance; it has passed when this returns, but for a worker's sleep."""
        names = list(FAULTS)
        if self._frozen:
            names.remove("worker frozen past its lease")
        name = self._chance.choices(names, [FAULTS[name] for name in names])[0]
        self.injected[name] += self._happened(name)

    def tend(self) -> None:
        """What died is started again, who slept long enough is woken, and who is ready is known."""
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
        """Whatever sleeps is woken, and all is there."""
        self._frozen = dict.fromkeys(self._frozen, 0.0)
        self.tend()

    def _happened(self, name: str) -> bool:
        """Whether there was something for this fault to befall."""
        worker = self._chance.choice(self._workers)
        short = self._chance.uniform(0.2, 3)
        match name:
            case "job process killed":
                return self._kill_job(worker)
            case "worker killed" if not self._sleeps(worker):
                self._kill(worker)
            case "worker frozen past its lease" if worker.children:
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
                self._while(self._servers.without_database(killed=name == "database killed"), short)
            case "broker stopped":
                self._while(self._servers.without_broker(), short)
            case "store refuses":
                self._while(self._servers.store.asking_for_credentials(), short)
            case "store frozen":
                self._while(_frozen(self._servers.store.process.pid), short)
            case _:
                return False
        return True

    def _sleeps(self, worker: Running) -> bool:
        return worker.pid in self._frozen

    def _kill(self, worker: Running) -> None:
        self.ready_since.pop(worker.pid, None)
        worker.kill()

    def _kill_job(self, worker: Running) -> bool:
        victims = worker.children
        for pid in victims:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return bool(victims)

    def _while(self, outage: AbstractContextManager[None], seconds: float) -> None:
        """The outage lasts so long."""
        self.whole_since = None
        with outage:
            time.sleep(seconds)
        self.whole_since = time.monotonic()


@contextmanager
def faulty_site(folder: Path, chance: random.Random, **settings: object) -> Iterator[tuple[Site, Faulty]]:
    """An installation on servers of its own, with all its processes running."""
    with ExitStack() as stack:
        servers = Servers(stack)
        outside = dict(os.environ)
        os.environ.update(servers.store.environment)
        stack.callback(os.environ.update, outside)
        site = Site(folder, **servers.settings, **settings)
        stack.callback(site.close)
        faulty = Faulty(site, servers, chance)
        stack.callback(faulty.rest)
        until(lambda: _all_ready(faulty), START_SECONDS, site.tell)
        yield site, faulty


def _all_ready(faulty: Faulty) -> bool:
    faulty.tend()
    return len(faulty.ready_since) == WORKERS


def _is_ready(worker: Running) -> bool:
    return b" ready." in worker.log.read_bytes()


def _clock(folder: Path, days: int) -> dict[str, str]:
    """The environment in which Python's clock is wrong by so many days."""
    place = folder / f"clock{days:+}"
    place.mkdir(exist_ok=True)
    (place / "sitecustomize.py").write_text(_WRONG_CLOCK.format(days=days))
    return {"PYTHONPATH": str(place)}


def _tell(worker: Running, number: signal.Signals) -> None:
    """The worker, then all that it has started, get the signal."""
    pids = [worker.pid]
    for pid in pids:
        with suppress(FileNotFoundError, ProcessLookupError):  # it has ended
            for task in Path(f"/proc/{pid}/task").glob("*/children"):
                pids += map(int, task.read_text().split())
            os.kill(pid, number)


@contextmanager
def _frozen(pid: int) -> Iterator[None]:
    os.kill(pid, signal.SIGSTOP)
    yield
    os.kill(pid, signal.SIGCONT)
