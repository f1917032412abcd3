"""Hostile uploads, all to one service that runs: each is refused for its own reason and does none of what it was made for."""

import re
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Thread

import httpx
import pytest
import torch
from markupsafe import escape
from sqlalchemy import ColumnElement, or_, select

from jobs.states import FINAL
from jobs.tables import Job
from tests.service.hostile_datasets import ACCEPTED, DATASETS, MARKUP, ODD_DATASET, ODD_NAMES
from tests.service.hostile_files import FORM_TYPE, SPEC_FIELD, Hostile, form
from tests.service.hostile_models import LIVE, MODELS, fitting_weights
from tests.service.hostile_requests import DIGESTS, SENT, Answer, Sent
from tests.service.processes import JOB_SECONDS, Site, until

HOSTILE = [*MODELS, *DATASETS, *DIGESTS]
LONG = {"endless-key", "hundred-thousand-files"}  # sent last, because the latest are checked first
CHECK_SECONDS = 15  # of processor time
CHECK_MEMORY = 2**30
LIMITS = {"upload_limit": 2**25, "validation_seconds": CHECK_SECONDS, "validation_memory": CHECK_MEMORY}
OTHERS_MEMORY = 640 * 2**20  # of service, workers and the processes of their jobs; torch alone is a third
ANSWER_SECONDS, SLOW_SECONDS, ALL_SECONDS = 10.0, 50.0, 480.0
AUDIT = {"threat": {"epsilon": "8/255"}, "attacks": [{"type": "pgd", "steps": 1}], "images": 60}

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]  # the first test waits for all checks


class Peaks(Thread):
    """The most memory that each process of a site has had, by its number; `confined` are those that read uploads."""

    def __init__(self, site: Site) -> None:
        super().__init__(daemon=True)
        self.confined: dict[int, int] = {}
        self.others: dict[int, int] = {}
        self._site, self._over = site, Event()

    def run(self) -> None:
        """Measure until asked to stop."""
        while not self._over.wait(0.1):
            waiting = [process._process.pid for process in self._site._processes if process.running]
            while waiting:
                pid = waiting.pop()
                with suppress(OSError):  # it has ended
                    waiting += self._look(pid)

    def stop(self) -> None:
        """Stop the measurement."""
        self._over.set()
        self.join()

    def _look(self, pid: int) -> list[int]:
        folder = Path(f"/proc/{pid}")
        kind = self.confined if b"worker.confinement" in (folder / "cmdline").read_bytes() else self.others
        status = dict(line.split(":", 1) for line in (folder / "status").read_text().splitlines())
        kind[pid] = max(kind.get(pid, 0), 1024 * int(status.get("VmHWM", "0 kB").split()[0]))  # a zombie has none
        return [int(child) for task in folder.glob("task/*/children") for child in task.read_text().split()]


@dataclass
class Attacked:
    """A site after all uploads were sent and checked, with what came of each by its name.

    Args:
        site: that was attacked.
        client: of its service.
        canaries: the folder in which nothing shall appear.
        answers: to the uploads.
        seconds: that each answer took.
        resources: what became of those that were taken in, after their checks.
        checks: their jobs.
        sent: answers to the bodies that were hostile by how they were sent.
        peaks: of memory.
    """

    site: Site
    client: httpx.Client
    canaries: Path
    answers: dict[str, httpx.Response]
    seconds: dict[str, float]
    resources: dict[str, dict]
    checks: dict[str, Job]
    sent: dict[str, Answer]
    peaks: Peaks

    def post(self, path: str, body: bytes, headers: Mapping[str, str] | None = None) -> httpx.Response:
        """Send that form on a connection of its own, and return the answer."""
        fields = {"Content-Type": FORM_TYPE, **(headers or {})}
        encoded = {name: value.encode("latin-1") for name, value in fields.items()}
        return httpx.post(self.client.base_url.join(path), content=body, headers=encoded, timeout=30)

    def send_all(self) -> None:
        """Send all uploads, and wait for the checks of those that were accepted."""
        for case in sorted(HOSTILE, key=lambda case: case.name in LONG):
            body, start = case.body(self.canaries / case.name), time.monotonic()
            self.answers[case.name] = self.post(case.path, body, case.headers)
            self.seconds[case.name] = time.monotonic() - start
        for name, (content, _) in ACCEPTED.items():
            self.answers[name] = self.post("/datasets", form(content(), {}))
        self.follow(*(name for name, answer in self.answers.items() if answer.status_code == 202))

    def follow(self, *names: str) -> None:
        """Wait for the checks of those uploads, and record their results."""
        uploads = {self.answers[name].json()["id"]: name for name in names}
        checks = or_(Job.model_id.in_(uploads), Job.dataset.in_(uploads))
        until(lambda: not self._jobs(checks, Job.state.not_in(FINAL)), ALL_SECONDS, self.site.tell)
        self.checks |= {uploads[job.model_id or job.dataset]: job for job in self._jobs(checks)}
        for name in names:
            self.resources[name] = httpx.get(self.client.base_url.join(self.answers[name].headers["Location"])).json()

    def honest_model(self) -> dict:
        """Return a model without harm, under a hostile file name, after its check."""
        if "honest" not in self.resources:
            body = form(fitting_weights(), SPEC_FIELD, filename="../../etc/cron.d/\0<b>mine.safetensors")
            self.answers["honest"] = self.post("/models", body)
            self.follow("honest")
        return self.resources["honest"]

    def _jobs(self, *which: ColumnElement[bool]) -> list[Job]:
        with self.site.sessions() as session:
            return list(session.scalars(select(Job).where(*which)))


@pytest.fixture(scope="module")
def attacked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Attacked]:
    """Return the service under attack: the uploads one after the other, and meanwhile bodies that never end."""
    folder = tmp_path_factory.mktemp("hostile")
    site = Site(folder, **LIMITS)
    canaries = folder / "canaries"
    canaries.mkdir()
    _, client = site.api()
    address = (client.base_url.host, client.base_url.port)
    site.worker()
    site.start("tests.service.forking_worker")
    state = Attacked(site, client, canaries, {}, {}, {}, {}, {}, Peaks(site))
    state.peaks.start()
    try:
        with ThreadPoolExecutor(len(SENT)) as senders:
            answers = {case.name: senders.submit(case.exchange, address) for case in SENT}
            state.send_all()
            state.sent = {name: answer.result() for name, answer in answers.items()}
        yield state
    finally:
        state.peaks.stop()
        site.close()


@pytest.mark.parametrize("case", LIVE, ids=lambda case: case.name)
@pytest.mark.filterwarnings("ignore")
def test_live_files_are_live(case: Hostile, tmp_path: Path) -> None:
    """The canary of a file that would run code appears where the file is read without care."""
    canary, file = tmp_path / "canary", tmp_path / "file"
    file.write_bytes(case.content(canary))
    assert not canary.exists()
    with suppress(Exception):  # what is behind the call may make no sense
        torch.load(file, weights_only=False)
    assert canary.exists()


@pytest.mark.parametrize("case", HOSTILE, ids=lambda case: case.name)
def test_hostile_file_is_refused(case: Hostile, attacked: Attacked) -> None:
    """The upload is refused, at once or by its check, for its own reason and in bounded time, and no code of it has run."""
    assert not (attacked.canaries / case.name).exists()
    answer = attacked.answers[case.name]
    assert answer.status_code == case.status, answer.text
    assert attacked.seconds[case.name] < ANSWER_SECONDS
    if case.status == 202:
        refused, check = attacked.resources[case.name], attacked.checks[case.name]
        assert refused["status"] == "rejected"
        code, told = refused["error"]["code"], refused["error"]["message"]
        assert (check.attempt, check.crashes) == (1, 0), attacked.site.tell()
        assert (check.finished_at - check.started_at).total_seconds() < 4 * CHECK_SECONDS + ANSWER_SECONDS
    else:
        code, told = answer.json()["code"], answer.json()["detail"]
    assert code == case.code, told
    assert re.search(case.reason, told), told


@pytest.mark.parametrize("case", SENT, ids=lambda case: case.name)
def test_hostile_sender_is_refused(case: Sent, attacked: Attacked) -> None:
    """A body that is not as long as it says, drips, breaks off or goes on and on is given up in bounded time."""
    answer = attacked.sent[case.name]
    assert (answer.status, answer.problem.get("code", "")) == (case.status, case.code)
    assert answer.seconds < SLOW_SECONDS


def test_memory_stays_bounded(attacked: Attacked) -> None:
    """No process that reads uploads exceeds the memory it may have, and no other process grows by them."""
    confined, others = dict(attacked.peaks.confined), dict(attacked.peaks.others)
    assert len(confined) >= len(attacked.checks)
    assert max(confined.values()) < CHECK_MEMORY
    assert max(others.values()) < OTHERS_MEMORY


def test_nothing_is_left(attacked: Attacked) -> None:
    """Nothing of what was refused is in storage or in a worker's folders, and nowhere is a canary."""
    assert list(attacked.canaries.iterdir()) == []
    resources = attacked.resources.values()
    files = [(resource["status"], resource.get("file_sha256", resource["sha256"])) for resource in resources]
    assert {sha256 for status, sha256 in files if status == "rejected"} == {None}
    kept = {attacked.site.storage.path(sha256) for status, sha256 in files if status == "ready"}
    files_dir = attacked.site.settings.files_dir
    until(lambda: {path for path in files_dir.rglob("*") if path.is_file()} == kept, within_seconds=10)
    folder = attacked.site.settings.checkpoints_dir
    until(lambda: not list(folder.iterdir()), within_seconds=10)


@pytest.mark.parametrize("name", ACCEPTED)
def test_odd_class_names_are_kept(name: str, attacked: Attacked) -> None:
    """Names of classes that are markup, formulas or alike but for case are names like others: no class is lost by them."""
    resource = attacked.resources[name]
    assert resource["status"] == "ready", resource["error"]
    assert tuple(resource["summary"]["class_names"]) == ACCEPTED[name][1]


def test_service_goes_on(attacked: Attacked) -> None:
    """Afterwards the service is ready, and an honest model is taken in; of its hostile file name what can be shown is kept."""
    assert attacked.client.get("/readyz").status_code == 200
    model = attacked.honest_model()
    assert (model["status"], model["name"], model["error"]) == ("ready", "<b>mine", None)


def test_odd_names_are_text_on_pages(attacked: Attacked) -> None:
    """A report on classes that are called like markup and formulas, and the pages that tell of them, have no markup of theirs."""
    client, model, dataset = attacked.client, attacked.honest_model()["id"], attacked.resources[ODD_DATASET]["id"]
    asked = AUDIT | {"model": model, "dataset": dataset}
    job = client.post("/jobs/audit", json=asked).json()["id"]
    until(lambda: client.get(f"/jobs/{job}/report").status_code != 202, JOB_SECONDS, attacked.site.tell)
    report = client.get(f"/jobs/{job}/report", params={"format": "html"}).text
    pages = [client.get(address).text for address in ("/ui/datasets", "/ui/models", f"/ui/jobs/{job}")]
    assert [name for name in ODD_NAMES if str(escape(name)) not in report] == []
    assert str(escape(MARKUP)) in pages[0]
    assert str(escape("<b>mine")) in pages[1]
    assert not any(markup in page for page in [report, *pages] for markup in ("<script>alert", MARKUP, "<b>mine"))
    as_json = client.get(f"/jobs/{job}/report", params={"format": "json"})
    assert as_json.headers["Content-Type"] == "application/json"
    assert as_json.headers["X-Content-Type-Options"] == "nosniff"
    assert client.get(f"/jobs/{job}/report", params={"format": "csv"}).status_code == 422  # formulas would run there
