"""Hostile uploads to one running service: each is refused for its own reason and has no other effect."""

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
from tests.service.hostile_requests import DIGESTS, SENT, Answer, SenderCase
from tests.service.processes import JOB_SECONDS, Site, wait_until

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
    """The peak memory of each process of a site, by its number; `confined` are those that read uploads."""

    def __init__(self, site: Site) -> None:
        super().__init__(daemon=True)
        self.confined: dict[int, int] = {}
        self.others: dict[int, int] = {}
        self._site, self._over = site, Event()

    def run(self) -> None:
        """Measure until asked to stop."""
        while not self._over.wait(0.002):  # a check may take a few hundredths of a second
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
        kind = self.confined if (folder / "comm").read_text() == "faal-reader\n" else self.others
        status = dict(line.split(":", 1) for line in (folder / "status").read_text().splitlines())
        kind[pid] = max(kind.get(pid, 0), 1024 * int(status.get("VmHWM", "0 kB").split()[0]))  # a zombie has none
        return [int(child) for task in folder.glob("task/*/children") for child in task.read_text().split()]


@dataclass
class AttackedSite:
    """A site after all uploads were sent and checked, with the result of each by its name.

    Args:
        site: the installation under attack.
        client: a client of its service.
        canaries: the folder that must stay empty.
        answers: the response to each upload.
        seconds: the duration of each response.
        resources: the model or data set of each accepted upload, after its check.
        checks: the job of each check.
        sender_answers: the responses to bodies that are hostile by the way they are sent.
        peaks: the peak memory of the processes.
    """

    site: Site
    client: httpx.Client
    canaries: Path
    answers: dict[str, httpx.Response]
    seconds: dict[str, float]
    resources: dict[str, dict]
    checks: dict[str, Job]
    sender_answers: dict[str, Answer]
    peaks: Peaks

    def post(self, path: str, body: bytes, headers: Mapping[str, str] | None = None) -> httpx.Response:
        """Send that form on a connection of its own, and return the answer."""
        fields = {"Content-Type": FORM_TYPE, **(headers or {})}
        header_bytes = {name: value.encode("latin-1") for name, value in fields.items()}
        return httpx.post(self.client.base_url.join(path), content=body, headers=header_bytes, timeout=30)

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
        wait_until(lambda: not self._jobs(checks, Job.state.not_in(FINAL)), ALL_SECONDS, self.site.tell)
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

    def _jobs(self, *conditions: ColumnElement[bool]) -> list[Job]:
        with self.site.sessions() as session:
            return list(session.scalars(select(Job).where(*conditions)))


@pytest.fixture(scope="module")
def attacked_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AttackedSite]:
    """Return the service under attack: the uploads are sent one after the other, and bodies that never end at the same time."""
    folder = tmp_path_factory.mktemp("hostile")
    site = Site(folder, **LIMITS)
    canaries = folder / "canaries"
    canaries.mkdir()
    _, client = site.api()
    address = (client.base_url.host, client.base_url.port)
    site.worker()
    site.start("tests.service.forking_worker")
    state = AttackedSite(site, client, canaries, {}, {}, {}, {}, {}, Peaks(site))
    state.peaks.start()
    try:
        with ThreadPoolExecutor(len(SENT)) as senders:
            answers = {case.name: senders.submit(case.exchange, address) for case in SENT}
            state.send_all()
            state.sender_answers = {name: answer.result() for name, answer in answers.items()}
        yield state
    finally:
        state.peaks.stop()
        site.close()


@pytest.mark.parametrize("case", LIVE, ids=lambda case: case.name)
@pytest.mark.filterwarnings("ignore")
def test_live_files_are_live(case: Hostile, tmp_path: Path) -> None:
    """The canary of a file that contains code appears when an unsafe reader reads the file."""
    canary, file = tmp_path / "canary", tmp_path / "file"
    file.write_bytes(case.content(canary))
    assert not canary.exists()
    with suppress(Exception):  # what is behind the call may make no sense
        torch.load(file, weights_only=False)
    assert canary.exists()


@pytest.mark.parametrize("case", HOSTILE, ids=lambda case: case.name)
def test_hostile_file_is_refused(case: Hostile, attacked_site: AttackedSite) -> None:
    """The upload is refused, at once or by its check, for its own reason and in bounded time, and none of its code has run."""
    assert not (attacked_site.canaries / case.name).exists()
    answer = attacked_site.answers[case.name]
    assert answer.status_code == case.status, answer.text
    assert attacked_site.seconds[case.name] < ANSWER_SECONDS
    if case.status == 202:
        rejected_upload, check = attacked_site.resources[case.name], attacked_site.checks[case.name]
        assert rejected_upload["status"] == "rejected"
        code, message = rejected_upload["error"]["code"], rejected_upload["error"]["message"]
        assert (check.attempt, check.crashes) == (1, 0), attacked_site.site.tell()
        assert (check.finished_at - check.started_at).total_seconds() < 4 * CHECK_SECONDS + ANSWER_SECONDS
    else:
        code, message = answer.json()["code"], answer.json()["detail"]
    assert code == case.code, message
    assert re.search(case.reason, message), message


@pytest.mark.parametrize("case", SENT, ids=lambda case: case.name)
def test_hostile_sender_is_refused(case: SenderCase, attacked_site: AttackedSite) -> None:
    """A body that has a false length, drips, breaks off or never ends is abandoned in bounded time."""
    answer = attacked_site.sender_answers[case.name]
    assert (answer.status, answer.problem.get("code", "")) == (case.status, case.code)
    assert answer.seconds < SLOW_SECONDS


def test_memory_stays_bounded(attacked_site: AttackedSite) -> None:
    """No process that reads uploads exceeds its memory limit, and no other process grows.

    Most readers end within a few hundredths of a second, too soon to be seen, and too soon to fill much memory.
    """
    confined, others = dict(attacked_site.peaks.confined), dict(attacked_site.peaks.others)
    assert len(confined) >= len(attacked_site.checks) // 6
    assert max(confined.values()) < CHECK_MEMORY
    assert max(others.values()) < OTHERS_MEMORY


def test_nothing_is_left(attacked_site: AttackedSite) -> None:
    """No refused upload is in storage or in a worker's folders, and no canary exists."""
    assert list(attacked_site.canaries.iterdir()) == []
    resources = attacked_site.resources.values()
    files = [(resource["status"], resource.get("file_sha256", resource["sha256"])) for resource in resources]
    assert {sha256 for status, sha256 in files if status == "rejected"} == {None}
    expected_files = {attacked_site.site.storage.path(sha256) for status, sha256 in files if status == "ready"}
    files_dir = attacked_site.site.settings.files_dir
    wait_until(lambda: {path for path in files_dir.rglob("*") if path.is_file()} == expected_files, within_seconds=10)
    folder = attacked_site.site.settings.checkpoints_dir
    wait_until(lambda: not list(folder.iterdir()), within_seconds=10)


@pytest.mark.parametrize("name", ACCEPTED)
def test_odd_class_names_are_kept(name: str, attacked_site: AttackedSite) -> None:
    """Class names that are markup, formulas or differ only in case are kept like any other name, and no class is lost."""
    resource = attacked_site.resources[name]
    assert resource["status"] == "ready", resource["error"]
    assert tuple(resource["summary"]["class_names"]) == ACCEPTED[name][1]


def test_service_goes_on(attacked_site: AttackedSite) -> None:
    """After the attacks the service is ready, and accepts an honest model; printable parts of its hostile file name are kept."""
    assert attacked_site.client.get("/readyz").status_code == 200
    model = attacked_site.honest_model()
    assert (model["status"], model["name"], model["error"]) == ("ready", "<b>mine", None)


def test_odd_names_are_text_on_pages(attacked_site: AttackedSite) -> None:
    """A report on classes whose names are markup and formulas, and the pages that show them, contain no markup of those names."""
    client, model, dataset = (
        attacked_site.client,
        attacked_site.honest_model()["id"],
        attacked_site.resources[ODD_DATASET]["id"],
    )
    audit_body = AUDIT | {"model": model, "dataset": dataset}
    job = client.post("/jobs/audit", json=audit_body).json()["id"]
    wait_until(lambda: client.get(f"/jobs/{job}/report").status_code != 202, JOB_SECONDS, attacked_site.site.tell)
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
