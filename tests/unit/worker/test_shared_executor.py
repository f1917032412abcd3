"""An audit's batches are computed by its job and by helpers; each result counts once, and outcomes are those of one process."""

import threading
import time
from contextlib import contextmanager

import numpy as np
import pytest
import torch

from faal_core.auditing.batches import BatchWork, open_one_process
from faal_core.auditing.evaluation import evaluate
from faal_core.auditing.evaluator import Evaluator
from faal_core.datasets.labelled_images import LabelledImages
from faal_core.progress import NoProgress
from faal_core.results.schedule import Batch
from faal_core.specs import PgdSpec
from faal_core.threat_model import ThreatModel
from jobs import sharing
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
def open_shared(sessions, key):
    """Return a function that opens an executor of one process that shares its batches from the start."""

    def open_audit(session) -> list[SharedBatch]:
        return list(sharing.open_audit(session, key, 1, environment="e", body={}))

    @contextmanager
    def open_executor(work: BatchWork):
        exchange = Exchange(sessions, key, 1, open_audit, ring=list, classes=3)
        with open_one_process(work) as own, SharedExecutor(own, lambda: exchange, resumes=True) as executor:
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


def test_helpers_compute_batches(open_shared, sessions, key, monkeypatch):
    """With two helpers the outcomes are those of one process, and both computed some of the batches."""
    monkeypatch.setattr("worker.batch_helper._IDLE_SECONDS", 1.0)
    workers = set()
    monkeypatch.setattr(
        "worker.exchange.check_result", lambda row, classes: workers.add(row.worker) or check_result(row, classes)
    )
    with run_helper(sessions, key, "a"), run_helper(sessions, key, "b"):
        np.testing.assert_equal(run(open_shared), run(open_one_process))
    assert workers == {"a", "b"}


def test_silent_helpers_cost_no_batch(open_shared, sessions, key, monkeypatch):
    """Batches that a helper claimed and never returns are computed by the job itself, and a wrong result is not taken."""
    monkeypatch.setattr("worker.shared_executor.AHEAD_SECONDS", 0.5)
    claimed: list[SharedBatch] = []

    def claim_for_ever() -> None:
        for _ in range(200):
            with sessions.begin() as session:
                claimed.extend(sharing.claim_batches(session, key, worker="silent", lease_seconds=60, most=2))
                if len(claimed) == 1:
                    assert sharing.store_result(session, claimed[0], "{}")
            if len(claimed) > 3:
                return
            time.sleep(0.02)

    thread = threading.Thread(target=claim_for_ever)
    thread.start()
    np.testing.assert_equal(run(open_shared), run(open_one_process))
    thread.join()
    assert claimed


def test_results_are_checked(running_job):
    """A result of other images, of another length, of an unknown class or with an impossible value is refused."""
    work = BatchWork(make_evaluator(), THREAT, SPECS)
    result = work.compute(Batch(0, 1, (3, 5))).result

    def check(**changes) -> bool:
        text = result.model_copy(update=changes).model_dump_json()
        row = SharedBatch(job_id=running_job, identity="i", number=0, attack=0, run=1, rows=[3, 5], result=text)
        return check_result(row, classes=3) is not None

    assert check()
    wrong = [
        {"rows": (3, 6)},
        {"attack": 1},
        {"run": 0},
        {"predicted": (0,)},
        {"predicted": (0, 3)},
        {"margin": (0.0, 1.5)},
    ]
    assert not any(check(**changes) for changes in [*wrong, {"distance": (0.0, -1.0)}, {"sha256": ()}, {"forward": -1}])
