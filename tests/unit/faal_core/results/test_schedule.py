"""Test the order of batches: which images form a batch, when it can begin, and that no order of completion changes a result."""

import random
from collections.abc import Sequence
from contextlib import nullcontext

import numpy as np
import torch

from faal_core.auditing.batches import BatchWork
from faal_core.auditing.evaluation import evaluate
from faal_core.auditing.evaluator import ComputedBatch, Evaluator
from faal_core.datasets.labelled_images import LabelledImages
from faal_core.progress import NoProgress
from faal_core.results.image_outcomes import ImageOutcomes
from faal_core.results.ledger import CLEAN, BatchResult, Ledger
from faal_core.results.schedule import AttackCount, Batch, Schedule
from faal_core.specs import ApgdSpec, PgdSpec, SquareSpec
from faal_core.threat_model import ThreatModel
from tests.linear_classifier import build_linear_classifier

ATTACKS = (
    PgdSpec(steps=3, restarts=2),
    ApgdSpec(loss="dlr", targets=3, iterations=5),
    SquareSpec(queries=10, margin_left=0.99),
    PgdSpec(steps=5),
)


def result_of(batch: Batch, broken: Sequence[int] = (), margin: float = 1.0) -> BatchResult:
    """Return the result of a batch of images of class 0, of which these are misclassified."""
    many = len(batch.rows)
    return BatchResult(
        **batch._asdict(),
        predicted=[int(row in broken) for row in batch.rows],
        margin=[0.5] * many,
        logit_margin=[margin] * many,
        distance=[0.1] * many,
        sha256=["ab" if row in broken else "" for row in batch.rows],
        forward=1,
        backward=1,
        seconds=1.0,
    )


def schedule_of(images: int, batch_size: int, *runs: int) -> Schedule:
    """Return the schedule of attacks with these numbers of runs, on images of class 0 whose clean predictions are right."""
    schedule = Schedule(ImageOutcomes(np.zeros(images, np.int64)), range(images), batch_size)
    for many in runs:
        schedule.add_attack(many)
    while (batch := schedule.next_batch()) is not None and batch.attack == CLEAN:
        schedule.add(result_of(batch))
        if schedule.is_complete(CLEAN):
            break
    return schedule


def test_a_batch_begins_once_no_smaller_image_can_still_reach_its_run() -> None:
    """Of ten images in batches of four, the next run begins with the survivors of two batches while the third is computed."""
    schedule = schedule_of(10, 4, 2)
    batches = [schedule.next_batch() for _ in range(3)]
    assert [batch.rows for batch in batches if batch] == [(0, 1, 2, 3), (4, 5, 6, 7), (8, 9)]
    assert schedule.next_batch() is None
    schedule.add(result_of(batches[1]))
    assert schedule.next_batch() is None  # images 0 to 3 can still come
    schedule.add(result_of(batches[0], broken=(1,)))
    assert schedule.next_batch() == Batch(0, 1, (0, 2, 3, 4))
    assert schedule.next_batch() is None  # images 8 and 9 can still come
    assert not schedule.is_complete(0)
    schedule.add(result_of(batches[2], broken=(8,)))
    assert schedule.next_batch() == Batch(0, 1, (5, 6, 7, 9))
    assert schedule.count(0) == AttackCount(tried=10, untried=8, broken=2)


def test_images_of_a_batch_without_a_result_stay_untried() -> None:
    """An image whose batch is never computed holds back all larger images of later runs, and counts as tried there, too."""
    schedule = schedule_of(6, 2, 1, 1)
    first, second, third = (schedule.next_batch() for _ in range(3))
    schedule.add(result_of(first))
    schedule.add(result_of(third, broken=(4,)))
    assert schedule.next_batch() == Batch(1, 0, (0, 1))
    assert schedule.next_batch() is None
    assert second is not None
    assert schedule.count(0) == AttackCount(tried=6, untried=2, broken=1)
    assert schedule.count(1) == AttackCount(tried=5, untried=5, broken=0)


def test_batches_are_predicted_as_if_no_image_broke() -> None:
    """The next runs of the images in progress are predicted, and what is predicted changes nothing in the schedule."""
    schedule = schedule_of(3, 4, 2, 2)
    batch = schedule.next_batch()
    predicted = [Batch(0, 1, (0, 1, 2)), Batch(1, 0, (0, 1, 2)), Batch(1, 1, (0, 1, 2))]
    assert list(schedule.predict_batches({batch})) == predicted
    schedule.add(result_of(batch))
    assert schedule.next_batch() == predicted[0]
    schedule.add(result_of(predicted[0], broken=(1,)))
    assert schedule.next_batch() == Batch(1, 0, (0, 2))
    assert schedule.count(1) == AttackCount(tried=2, untried=2, broken=0)


def test_an_attack_that_is_added_late_gets_the_images_that_no_attack_broke() -> None:
    """Images that have gone through all attacks go to an attack that is added afterwards."""
    schedule = schedule_of(4, 2, 1)
    schedule.add(result_of(schedule.next_batch(), broken=(0,)))
    schedule.add(result_of(schedule.next_batch(), broken=(2,)))
    assert schedule.next_batch() is None
    schedule.add_attack(1)
    assert schedule.next_batch() == Batch(1, 0, (1, 3))


class ThreePlaces:
    """Computes three batches at a time, and returns one of the results at random, or none."""

    places = 3

    def __init__(self, work: BatchWork, seed: int) -> None:
        self._work, self._random, self._batches = work, random.Random(seed), []

    def free_places(self) -> int:
        """Return how many batches are lacking."""
        return self.places - len(self._batches)

    def submit(self, batch: Batch) -> None:
        """Keep the batch."""
        self._batches.append(batch)

    def wait(self, seconds: float) -> list[ComputedBatch]:
        """Compute one of the batches, now and then none; one result in five comes twice."""
        if self._random.random() < 0.3:
            return []
        batch = self._batches.pop(self._random.randrange(len(self._batches)))
        return [self._work.compute(batch)] * (1 + (self._random.random() < 0.2))


class Log(NoProgress):
    """Progress that keeps stages with their units, and the names of the attacks that ended."""

    def __init__(self) -> None:
        self.lines, self.done = [], []

    def stage(self, name: str, total: int) -> None:
        """Begin to count the units of a stage."""
        self.lines.append((name, total))
        self.done.append(0)

    def advance(self, count: int = 1) -> None:
        """Count units of the stage."""
        self.done[-1] += count

    def record(self, row) -> None:
        """Keep the attack without its time."""
        self.lines.append(row.model_copy(update={"seconds": 0}))


def test_no_order_of_completion_changes_anything() -> None:
    """Three batches at a time, completed in random orders, give the outcomes, batches and progress of one at a time."""
    images = torch.rand(60, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    classifier = build_linear_classifier(4, (1, 4, 4))
    data = LabelledImages(images, classifier(images).argmax(1), tuple("abcd"), "noise", "test")

    def run(**options):
        evaluator = Evaluator(classifier, data, device=torch.device("cpu"), batch_size=100, seed=0)
        log, ledger = Log(), Ledger(None, "", batch_size=3)
        evaluation, rows = evaluate(evaluator, ThreatModel(epsilon=0.02), ATTACKS, log, ledger, **options)
        units = {one.model_copy(update={"seconds": 0}) for one in ledger}
        return evaluation, [row.model_copy(update={"seconds": 0}) for row in rows], units, log.lines, log.done

    expected, rows, units, lines, done = run()
    assert 0 < rows[1].broken < rows[1].tried
    assert done == [total for _, total in (line for line in lines if isinstance(line, tuple))]
    for seed in range(5):
        evaluation, *others = run(open_executor=lambda work, seed=seed: nullcontext(ThreePlaces(work, seed)))
        assert others == [rows, units, lines, done]
        for name in ("clean", "attacked", "broken_by", "distance", "margin", "sha256"):
            np.testing.assert_array_equal(getattr(evaluation, name), getattr(expected, name))


def test_a_resumed_audit_keeps_the_size_of_its_batches(tmp_path) -> None:
    """The first line of a ledger holds the size of the batches, so that another machine forms the same ones."""
    with Ledger(tmp_path / "l", "me", batch_size=3):
        pass
    with Ledger(tmp_path / "l", "me", batch_size=5) as ledger:
        assert ledger.batch_size == 3
    with Ledger(tmp_path / "new", "me", batch_size=5) as ledger:
        assert ledger.batch_size == 5
    with Ledger(tmp_path / "earlier", "me"):
        pass
    with Ledger(tmp_path / "earlier", "me", batch_size=5) as ledger:
        assert ledger.batch_size is None
