"""Test audits by several processes: the same report, whatever their number and whichever are killed, and errors in the parent."""

import itertools
import math
import os
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import nn

from faal_core.auditing import parallelism, processes
from faal_core.auditing.batches import BatchWork, FailedBatch, OneProcess
from faal_core.auditing.evaluation import evaluate
from faal_core.auditing.evaluator import ComputedBatch, Evaluator
from faal_core.auditing.processes import Executors
from faal_core.auditing.run import run_audit
from faal_core.classifier import Classifier
from faal_core.datasets.labelled_images import LabelledImages
from faal_core.errors import ClassifierUnsuitable, InvalidSpec, OutOfMemory
from faal_core.progress import Cancelled, NoProgress
from faal_core.results.schedule import Batch
from faal_core.specs import ApgdSpec, AttackSpec, AuditSpec, PgdSpec, SquareSpec
from faal_core.threat_model import ThreatModel
from tests.linear_classifier import build_linear_classifier

CPU = torch.device("cpu")
SHAPE = (1, 4, 4)
ATTACKS: tuple[AttackSpec, ...] = (
    PgdSpec(steps=3, restarts=2),
    ApgdSpec(loss="dlr", targets=3, iterations=5),
    SquareSpec(queries=10),
)
SPEC = AuditSpec(threat=ThreatModel(epsilon=0.02), attacks=ATTACKS, batch_size=4)


def images_of(classifier: Classifier, count: int = 60) -> LabelledImages:
    """Return noise with the labels that the classifier predicts."""
    images = torch.rand(count, *SHAPE, generator=torch.Generator().manual_seed(0))
    return LabelledImages(images, classifier(images).argmax(1), tuple("abcd"), "noise", "test")


def audit(count: int, images: Path | None = None, **options):
    """Return the report of an audit by that many processes, without times, and its result."""
    classifier = build_linear_classifier(4, SHAPE)
    data = images_of(classifier)
    result = run_audit(
        classifier,
        data,
        SPEC,
        name="linear",
        device=CPU,
        executors=Executors(count),
        keep_adversarial=images or True,
        **options,
    )
    report = result.report.model_dump(exclude={"created_at", "seconds", "provenance", "resumed"})
    for attack in report["attacks"]:
        del attack["seconds"]
    return report, result


def list_children() -> set[int]:
    """Return the processes that this one has started and that compute batches; servers of other tests are others."""
    found, command = set(), Path("/proc/self/cmdline").read_bytes()  # which a fork has, too
    for pid in (pid for task in Path("/proc/self/task").glob("*/children") for pid in task.read_text().split()):
        with suppress(FileNotFoundError, ProcessLookupError):  # it has ended
            if Path(f"/proc/{pid}/cmdline").read_bytes() in {command, b""}:
                found.add(int(pid))
    return found


class KillsAChild(NoProgress):
    """Progress that kills a child after some batches."""

    def __init__(self, batches: int) -> None:
        self._batches = batches
        self.killed = 0

    def advance(self, count: int = 1) -> None:
        """Count one batch."""
        self._batches -= 1
        if self._batches == 0 and (children := list_children()):
            os.kill(max(children), signal.SIGINT)  # Ctrl-C reaches all processes of a terminal, and is the parent's
            os.kill(min(children), signal.SIGKILL)
            self.killed += 1


def test_the_report_is_the_same_by_one_process_and_by_several_of_which_one_is_killed() -> None:
    """One, two and three processes, and two of which one is killed, give the same report, outcomes and adversarial images."""
    expected, one = audit(1)
    for count, progress in ((2, NoProgress()), (3, NoProgress()), (2, KillsAChild(20))):
        report, result = audit(count, progress=progress)
        assert report == expected
        assert result.outcomes.sha256 == one.outcomes.sha256
        assert torch.equal(result.adversarial_images, one.adversarial_images)
        assert result.report.provenance.processes == count
        assert getattr(progress, "killed", 1) == 1
    assert not list_children()


def test_an_audit_that_was_killed_in_several_processes_resumes_in_one(tmp_path: Path) -> None:
    """Batches that two processes computed are not computed again, in whatever order they came."""

    class Stops(NoProgress):
        batches = 25

        def advance(self, count: int = 1) -> None:
            self.batches -= 1
            if not self.batches:
                raise Cancelled("enough")

    images = tmp_path / "images.npy"
    with pytest.raises(Cancelled):
        audit(2, ledger=tmp_path / "l", images=images, progress=Stops())
    assert not list_children()
    lines = (tmp_path / "l").read_text().splitlines()
    assert len(lines) >= 25
    report, result = audit(1, ledger=tmp_path / "l", images=images)
    expected, whole = audit(1)
    assert report == expected
    assert torch.equal(result.adversarial_images, whole.adversarial_images)
    every = (tmp_path / "l").read_text().splitlines()
    assert every[: len(lines)] == lines
    assert len(set(every)) == len(every)


class Behaves(nn.Module):
    """A linear network that does something in the process that computes a batch of four or fewer images."""

    def __init__(self, act) -> None:
        super().__init__()
        self.linear, self.act, self.own = build_linear_classifier(4, SHAPE).backbone, act, os.getpid()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return logits."""
        if os.getpid() != self.own:
            self.act()
        return self.linear(x)


def evaluate_by(act, count: int = 2, images: int = 40, progress: NoProgress | None = None):
    """Evaluate the network that acts, by that many processes."""
    classifier = Classifier(Behaves(act), build_linear_classifier(4, SHAPE).spec).eval()
    evaluator = Evaluator(classifier, images_of(classifier, images), device=CPU, batch_size=4, seed=0)
    return evaluate(evaluator, SPEC.threat, ATTACKS[:1], progress or NoProgress(), open_executor=Executors(count))


def test_a_batch_that_ends_every_process_ends_the_audit() -> None:
    """A network whose processes are killed, or end, is an error after a few processes, and never a loop."""
    with pytest.raises(OutOfMemory, match="3 processes were killed"):
        evaluate_by(lambda: os.kill(os.getpid(), signal.SIGKILL))
    with pytest.raises(ClassifierUnsuitable, match="exit status 3"):
        evaluate_by(lambda: os._exit(3))
    with pytest.raises(ClassifierUnsuitable, match=f"signal {signal.SIGTERM.value}"):
        evaluate_by(lambda: os.kill(os.getpid(), signal.SIGTERM))
    assert not list_children()


def test_errors_of_a_process_are_raised_in_the_parent() -> None:
    """An error of the library arrives with its message, and one that cannot be sent as text."""

    class Odd(Exception):
        pass

    def fail(error: BaseException) -> None:
        raise error

    with pytest.raises(InvalidSpec, match="no good"):
        evaluate_by(lambda: fail(InvalidSpec("no good", remedy="epsilon")))
    with pytest.raises(RuntimeError, match="Odd: strange"):
        evaluate_by(lambda: fail(Odd("strange")))
    assert not list_children()


class FailsEarly(OneProcess):
    """Takes two batches at a time, and fails to compute the second: with one batch a run, it is one that may not be needed."""

    places = 2

    def __init__(self, work: BatchWork) -> None:
        super().__init__(work)
        self.batches: list[Batch] = []
        self.failed: list[Batch] = []

    def free_places(self) -> int:
        """Return how many more it takes."""
        return 2 - len(self.batches)

    def submit(self, batch: Batch) -> None:
        """Store the batch."""
        self.batches.append(batch)

    def wait(self, seconds: float) -> list[ComputedBatch | FailedBatch]:
        """Return the result of the first batch, and an error of the other."""
        first, *others = self.batches
        self.batches = []
        self.failed += others
        return [self._work.compute(first), *(FailedBatch(one, ClassifierUnsuitable("early")) for one in others)]


def test_a_batch_that_fails_before_it_is_needed_is_computed_again() -> None:
    """Errors of batches that were started early do not end an audit that one process would end: the outcomes are the same."""
    classifier = build_linear_classifier(4, SHAPE)
    evaluator = Evaluator(classifier, images_of(classifier, 4), device=CPU, batch_size=4, seed=0)
    executors: list[FailsEarly] = []

    @contextmanager
    def open_executor(work: BatchWork) -> Iterator[FailsEarly]:
        executors.append(FailsEarly(work))
        yield executors[0]

    outcomes, rows = evaluate(evaluator, SPEC.threat, ATTACKS, NoProgress(), open_executor=open_executor)
    expected, expected_rows = evaluate(evaluator, SPEC.threat, ATTACKS, NoProgress())
    assert executors[0].failed
    assert (outcomes.margin == expected.margin).all()
    assert [(row.tried, row.broken, row.forward) for row in rows] == [
        (row.tried, row.broken, row.forward) for row in expected_rows
    ]


def test_the_audit_is_cancelled_while_a_batch_is_computed() -> None:
    """A request to stop is noticed while batches are computed, and ends their processes at once."""

    class CancelledAfterOneSecond(NoProgress):
        start = time.monotonic()

        def advance(self, count: int = 1) -> None:
            if time.monotonic() > self.start + 1:
                raise Cancelled("a client asked")

    start = time.monotonic()
    with pytest.raises(Cancelled):
        evaluate_by(lambda: time.sleep(60), progress=CancelledAfterOneSecond())
    assert time.monotonic() < start + 10
    assert not list_children()


def test_processes_end_with_their_parent() -> None:
    """The processes of an audit whose process is killed do not outlive it."""
    reader, writer = os.pipe()
    if not (parent := os.fork()):
        os.setpgid(0, 0)
        torch.set_num_threads(1)  # a fork lacks its parent's threads, and would wait for them
        evaluate_by(lambda: (os.write(writer, b"computing"), time.sleep(60)))
        os._exit(0)
    os.close(writer)
    os.read(reader, 100)
    start = time.monotonic()
    os.kill(parent, signal.SIGKILL)
    os.waitpid(parent, 0)
    while os.read(reader, 100):  # until no process has the other end
        pass
    os.close(reader)
    assert time.monotonic() < start + 10


@pytest.mark.slow
def test_a_copy_computes_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes that receive a copy of network and images, as on GPUs, give the same report; without a copy one process does."""
    monkeypatch.setattr(processes, "can_fork", lambda device: False)
    expected, _ = audit(1)
    report, result = audit(2)
    assert report == expected
    assert result.report.provenance.processes == 2
    evaluation, _ = evaluate_by(lambda: None)  # a function without a name cannot be copied
    assert evaluation.correct.all()
    assert not list_children()


def test_the_number_of_processes_is_chosen_by_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """A short audit is computed in one process; a long one in as many as there are cores, memory and batches for."""
    classifier = build_linear_classifier(4, SHAPE)
    evaluator = Evaluator(classifier, images_of(classifier), device=CPU, batch_size=4, seed=0)
    milliseconds = itertools.count(step=0.001)  # every pass takes one
    monkeypatch.setattr(time, "perf_counter", partial(next, milliseconds))
    monkeypatch.setattr(parallelism, "count_cores", lambda: 6)
    slow = (ApgdSpec(iterations=10_000, restarts=10),) * 1000
    assert parallelism.choose_processes(evaluator, (PgdSpec(),)) == 1
    assert parallelism.choose_processes(evaluator, slow) == 6
    monkeypatch.setattr(parallelism, "count_cores", lambda: 100)
    assert parallelism.choose_processes(evaluator, slow) == 15
    monkeypatch.setattr(parallelism, "count_available_bytes", lambda: 700 * 2**20)
    assert parallelism.choose_processes(evaluator, slow) == 2


def test_a_container_s_share_of_the_processors_limits_the_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A container that may use one and a half cores gets two processes, and no more than torch has threads."""
    monkeypatch.setattr(parallelism, "_CGROUPS", tmp_path)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 64)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(16)))
    assert parallelism.count_cores() == 16
    (tmp_path / "cpu.max").write_text("150000 100000\n")
    assert parallelism.count_cores() == 2
    (tmp_path / "cpu.max").write_text("max 100000\n")
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    assert parallelism.count_cores() == 3


class WithThreads(nn.Module):
    """A network whose own threads compute."""

    def __init__(self) -> None:
        super().__init__()
        self.linear, self.threads = nn.Linear(16, 4), ThreadPoolExecutor(1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return logits."""
        return self.threads.submit(self.linear, x.flatten(1)).result()


def test_a_network_with_threads_of_its_own_is_not_forked(monkeypatch) -> None:
    """The audit computes in one process, because a fork of the network would wait for threads that it does not have."""
    monkeypatch.setattr(processes, "_FORK_SECONDS", 0.5)
    classifier = Classifier.wrap(WithThreads(), num_classes=4)
    evaluator = Evaluator(classifier, images_of(classifier), device=CPU, batch_size=4, seed=0)
    executors = Executors(2)
    evaluate(evaluator, SPEC.threat, ATTACKS[:1], NoProgress(), open_executor=executors)
    assert executors.count == 1


@pytest.mark.parametrize(
    ("processes", "seconds", "least", "most"), [(1, math.inf, 0, 0), (1, 60.0, 1000, 1000), (2, math.inf, 1, 999)]
)
def test_the_leader_works_beside_the_batches(processes: int, seconds: float, least: int, most: int) -> None:
    """A lone process computes the batches first, with limited time all other work; one of several does both at a time."""

    class HasTime(NoProgress):
        def time_left(self) -> float:
            return seconds

    def work() -> Iterator[None]:
        for part in range(1000):
            parts.append(part)
            yield

    parts: list[int] = []
    classifier = build_linear_classifier(4, SHAPE)
    evaluator = Evaluator(classifier, images_of(classifier), device=CPU, batch_size=4, seed=0)
    executors = Executors(processes)
    evaluate(evaluator, SPEC.threat, ATTACKS[:1], HasTime(), open_executor=executors, side_work=work())
    assert least <= len(parts) <= most
