"""An audit's batches are computed by its job and by helpers; each result counts once, and outcomes are those of one process."""

import math
import threading
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace

import numpy as np
import pytest
import torch

from faal_core.auditing.batches import BatchWork, OneProcess, open_one_process
from faal_core.auditing.evaluation import evaluate
from faal_core.auditing.evaluator import ComputedBatch, Evaluator
from faal_core.datasets.labelled_images import LabelledImages
from faal_core.progress import NoProgress
from faal_core.results.ledger import CLEAN, BatchResult, Ledger
from faal_core.results.schedule import Batch
from faal_core.specs import PgdSpec
from faal_core.threat_model import ThreatModel
from jobs import sharing
from jobs.errors import LeaseLost
from jobs.sharing import AuditKey
from jobs.sharing_tables import SharedBatch
from tests.linear_classifier import build_linear_classifier
from worker.batch_helper import BatchHelper
from worker.exchange import Exchange, check_result
from worker.shared_executor import SharedExecutor

THREAT, SPECS = ThreatModel(epsilon=0.02), (PgdSpec(steps=3, restarts=4),)


def make_evaluator() -> Evaluator:
    """Return an evaluator of a linear classifier on 96 images, in batches of 4."""
    images = torch.rand(96, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    classifier = build_linear_classifier(3, (1, 4, 4))
    data = LabelledImages(images, classifier(images).argmax(1), ("a", "b", "c"), "random", "test")
    return Evaluator(classifier, data, device=torch.device("cpu"), batch_size=4, seed=0)


@pytest.fixture
def key(running_job) -> AuditKey:
    """Return the key of an audit of a running job."""
    return AuditKey(running_job, "identity")


@pytest.fixture
def workers() -> set[str]:
    """Return the names of the workers whose results came."""
    return set()


class LeavesBatches(OneProcess):
    """Computes only the first two attacked batches until a helper has computed one, if the test says that there are helpers."""

    helped = False

    def __init__(self, work: BatchWork, workers: set[str]) -> None:
        super().__init__(work)
        self._workers, self._attacked = workers, 0

    def free_places(self) -> int:
        """Return 1 where it takes a batch."""
        return super().free_places() if self._attacked < 2 or self._workers or not self.helped else 0

    def submit(self, batch: Batch) -> None:
        """Count attacked batches."""
        self._attacked += batch.attack != CLEAN
        super().submit(batch)


@pytest.fixture
def open_shared(sessions, key, workers):
    """Return a function that opens an executor of one process that shares its batches from the start."""

    def open_audit() -> list[SharedBatch]:
        with sessions.begin() as session:
            return list(sharing.open_audit(session, key, 1, environment="e", body={}))

    @contextmanager
    def open_executor(work: BatchWork):
        def check(row: SharedBatch) -> BatchResult | None:
            workers.add(row.worker or "")
            return check_result(row, work)

        exchange = Exchange(sessions, key, 1, open_audit, list, check)
        with SharedExecutor(LeavesBatches(work, workers), lambda: exchange, resumes=True) as executor:
            yield executor

    return open_executor


def outcomes(evaluation) -> list[np.ndarray]:
    """Return all columns of an evaluation."""
    return [evaluation.clean, evaluation.attacked, evaluation.broken_by, evaluation.distance]


def run(open_executor) -> list[np.ndarray]:
    """Return the outcomes of the audit."""
    evaluation, _ = evaluate(make_evaluator(), THREAT, SPECS, NoProgress(), open_executor=open_executor)
    return outcomes(evaluation)


def test_a_job_without_helpers_computes_what_it_offered(open_shared, sessions):
    """Batches that no helper claims are computed by the job itself, and no row is left."""
    np.testing.assert_equal(run(open_shared), run(open_one_process))
    with sessions() as session:
        assert session.query(SharedBatch).count() == 0


@contextmanager
def run_helper(sessions, key, worker: str):
    """Compute batches of the audit in a thread, as a process of that worker does, within the block."""

    def help_audit() -> None:
        with open_one_process(BatchWork(make_evaluator(), THREAT, SPECS)) as executor:
            BatchHelper(executor, sessions, key, worker, lease_seconds=60).run()

    thread = threading.Thread(target=help_audit)
    thread.start()
    yield
    thread.join()


def test_helpers_compute_batches(open_shared, sessions, key, workers, monkeypatch):
    """With two helpers, which compute some of the batches, the outcomes are those of one process."""
    monkeypatch.setattr("worker.batch_helper._IDLE_SECONDS", 5.0)
    monkeypatch.setattr(LeavesBatches, "helped", True)
    with run_helper(sessions, key, "a"), run_helper(sessions, key, "b"):
        np.testing.assert_equal(run(open_shared), run(open_one_process))
    assert workers <= {"a", "b"}
    assert workers  # one of them may be faster than the other, and take all


def test_silent_helpers_cost_no_batch(open_shared, sessions, key, monkeypatch):
    """Batches that a helper claimed and never returns are computed by the job itself, and a wrong result is not taken."""
    monkeypatch.setattr("worker.shared_executor.AHEAD_SECONDS", 0.5)
    monkeypatch.setattr(LeavesBatches, "helped", True)
    claimed: list[SharedBatch] = []

    def claim_for_ever() -> None:
        for _ in range(1000):
            with sessions.begin() as session:
                claimed.extend(sharing.claim_batches(session, key, worker="silent", lease_seconds=60, most=lambda _: 1))
                if len(claimed) == 1:
                    assert sharing.store_result(session, claimed[0], "{}")
            if len(claimed) > 3:
                return
            time.sleep(0.02)

    thread = threading.Thread(target=claim_for_ever)
    thread.start()
    np.testing.assert_equal(run(open_shared), run(open_one_process))
    assert claimed
    thread.join()


def test_results_are_checked(running_job):
    """A result of other images, of another length, of an unknown class or with an impossible value is refused."""
    work = BatchWork(make_evaluator(), THREAT, SPECS)
    result = work.compute(Batch(0, 1, (3, 5))).result

    def check(**changes) -> bool:
        text = result.model_copy(update=changes).model_dump_json()
        row = SharedBatch(job_id=running_job, identity="i", number=0, attack=0, run=1, rows=[3, 5], result=text)
        return check_result(row, work) is not None

    assert check()
    wrong = [
        {"rows": (3, 6)},
        {"attack": 1},
        {"run": 0},
        {"predicted": (0,)},
        {"predicted": (0, 3)},
        {"margin": (0.0, 1.5)},
    ]
    wrong += [
        {"distance": (0.0, -1.0)},
        {"distance": (0.0, 0.03)},
        {"sha256": ()},
        {"sha256": ("x", "")},
        {"forward": -1},
    ]
    wrong += [{"sha256": tuple("" if digest else "0" * 64 for digest in result.sha256)}]
    assert not any(check(**changes) for changes in wrong)


class SlowBatches(OneProcess):
    """Says that each batch took two seconds."""

    def wait(self, seconds: float) -> list[ComputedBatch]:
        """Return the result of the batch."""
        return [replace(one, result=one.result.model_copy(update={"seconds": 2.0})) for one in super().wait(seconds)]


def test_an_audit_of_slow_batches_is_shared(monkeypatch):
    """An audit whose batches take longer than a second is shared once it has run for a while."""
    monkeypatch.setattr("worker.shared_executor._MATURE_SECONDS", 0.0)
    opened = list[bool]()

    def open_exchange() -> AbstractContextManager[Exchange]:
        opened.append(True)
        raise OSError

    @contextmanager
    def open_executor(work: BatchWork):
        yield SharedExecutor(SlowBatches(work), open_exchange, resumes=False)

    run(open_executor)
    assert opened == [True]


class OutOfTimeAfter(NoProgress):
    """Has no time left after that many units of work."""

    def __init__(self, units: int) -> None:
        self._units = units

    def advance(self, count: int = 1) -> None:
        """Count units."""
        self._units -= count

    def time_left(self) -> float:
        """Return seconds."""
        return math.inf if self._units > 0 else 0.0


@pytest.mark.parametrize("shared", [False, True])
def test_batches_that_were_taken_ahead_are_left_when_the_time_is_over(open_shared, shared):
    """When the time is over, at most the batch in work is computed, however many fast batches were taken ahead."""

    @contextmanager
    def open_alone(work: BatchWork):
        yield SharedExecutor(OneProcess(work), list, resumes=False)

    progress = OutOfTimeAfter(96 + 8)  # all clean predictions and two batches
    open_executor = open_shared if shared else open_alone
    evaluation, (row,) = evaluate(make_evaluator(), THREAT, SPECS, progress, open_executor=open_executor)
    assert evaluation.clean.min() >= 0
    assert row.untried > 0
    assert row.forward <= 4 * 4 * 5  # images, batches, and passes of a run


def test_results_of_an_earlier_attempt_are_taken(open_shared, sessions, key, workers):
    """A result that a helper stored for an attempt that died is not computed again."""
    work = BatchWork(make_evaluator(), THREAT, SPECS)
    batch = Batch(CLEAN, 0, (0, 1, 2, 3))
    with sessions.begin() as session:
        sharing.open_audit(session, key, 1, environment="e", body={})
        sharing.offer(session, key, 1, [(0, batch)])
    with sessions.begin() as session:
        (claimed,) = sharing.claim_batches(session, key, worker="a", lease_seconds=60, most=lambda _: 1)
        marked = work.compute(batch).result.model_copy(update={"margin": (0.5, 0.5, 0.5, 0.5)})
        assert sharing.store_result(session, claimed, marked.model_dump_json())
    ledger = Ledger(None, "", batch_size=4)
    evaluate(make_evaluator(), THREAT, SPECS, NoProgress(), ledger, open_executor=open_shared)
    assert ledger.find(*batch) == marked
    assert workers == {"a"}


def test_a_helper_leaves_batches_that_were_taken_back(sessions, key, monkeypatch):
    """A helper that has claimed two batches computes the first, and leaves the second that the job took back meanwhile."""
    monkeypatch.setattr("worker.batch_helper._IDLE_SECONDS", 3.0)
    computed = list[Batch]()

    class TakesBack(OneProcess):
        def wait(self, seconds: float) -> Sequence[ComputedBatch]:
            """Compute a batch, while the job takes the other one back."""
            results = super().wait(seconds)
            computed.extend(Batch(one.result.attack, one.result.run, one.result.rows) for one in results)
            with sessions.begin() as session:
                sharing.discard(session, key, 1, [1])
            return results

    monkeypatch.setattr("worker.batch_helper._CLAIM_SECONDS", 1e9)
    batches = [Batch(CLEAN, 0, (number,)) for number in range(4)]
    with sessions.begin() as session:
        sharing.open_audit(session, key, 1, environment="e", body={})
        sharing.offer(session, key, 1, enumerate(batches))
    helper = BatchHelper(TakesBack(BatchWork(make_evaluator(), THREAT, SPECS)), sessions, key, "a", lease_seconds=60)
    helper._batch_seconds[CLEAN] = 1.0
    helper.run()
    assert computed == [batches[0], *batches[2:]]


def test_an_attempt_that_lost_its_lease_takes_no_results(sessions, key):
    """A leader that wakes up after its job has started another attempt deletes none of that attempt's rows."""
    with sessions.begin() as session:
        sharing.open_audit(session, key, 1, environment="e", body={})
        sharing.offer(session, key, 1, [(0, Batch(CLEAN, 0, (0,)))])
    with sessions.begin() as session, pytest.raises(LeaseLost):
        sharing.discard(session, key, 2, [0])
    with sessions() as session:
        assert session.query(SharedBatch).count() == 1


def test_rows_of_an_earlier_attempt_are_not_taken_back_at_once(sessions, key, monkeypatch):
    """Batches that helpers compute, or have computed, for an attempt that died count as leased until the table is read."""
    monkeypatch.setattr(Exchange, "_exchange", lambda _: None)
    batch = Batch(CLEAN, 0, (0,))
    row = SharedBatch(**key._asdict(), number=0, attack=CLEAN, run=0, rows=[0], result="{}")
    with Exchange(sessions, key, 1, lambda: [row], list, lambda _: None) as exchange:
        exchange.wait_until_open(60)
        assert exchange.has(batch)
        assert exchange.take_back({batch}, leased_for=60) is None
