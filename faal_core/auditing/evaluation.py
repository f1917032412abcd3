"""Evaluate a classifier on all images of an audit: compute the batches that are missing, add them up, and report progress."""

import math
import time
from collections.abc import Iterable, Iterator
from itertools import islice

from torch import Tensor

from faal_core.auditing.adversarial import AdversarialImages
from faal_core.auditing.batches import BatchExecutor, BatchWork, FailedBatch, OpenExecutor, open_one_process
from faal_core.auditing.certification import certify
from faal_core.auditing.evaluator import ComputedBatch, Evaluator
from faal_core.auditing.parallelism import choose_batch_size
from faal_core.errors import InvalidSpec
from faal_core.progress import Progress
from faal_core.results.documents import AttackRow
from faal_core.results.image_outcomes import Evaluation, ImageOutcomes
from faal_core.results.ledger import CERTIFIED, CLEAN, BatchResult, Ledger
from faal_core.results.schedule import Batch, Schedule
from faal_core.specs import AttackSpec
from faal_core.threat_model import ThreatModel

_PATIENCE_SECONDS = 10.0  # after the clean predictions, in which a lone process only attacks: helpers may still come
_NOTICE_SECONDS = 0.5  # longest wait for a result before `progress` is asked whether to stop


class _EvaluationRun:
    """Runs one evaluation: has the batches computed that its ledger lacks, adds up outcomes, and reports progress in order."""

    def __init__(
        self,
        work: BatchWork,
        ledger: Ledger,
        progress: Progress,
        adversarial: AdversarialImages | None,
        rows: list[int],
        *,
        compute: bool,
        side_work: Iterator[object],
    ) -> None:
        self._work, self._ledger, self._progress, self._adversarial = work, ledger, progress, adversarial
        self._compute, self._side_work = compute, side_work
        self.outcomes = ImageOutcomes(work.evaluator.data.labels.numpy())
        for result in ledger:
            if result.attack == CERTIFIED:
                self.outcomes.add(result)
        self._schedule = Schedule(self.outcomes, rows, ledger.batch_size or work.evaluator.batch_size)
        for attack, spec in zip(work.attacks, work.specs, strict=True):
            self._schedule.add_attack(attack.runs, spec.margin_left)
        classes = work.evaluator.classifier.num_classes
        self._max_passes = [spec.passes(classes) for spec in work.specs]  # per image, in all runs
        self._next: Batch | None = None  # waits until the executor has a place
        self._in_progress: set[Batch] = set()
        self._in_progress_early: set[Batch] = set()
        self._early: dict[Batch, ComputedBatch] = {}  # results that may be needed later
        self._failed_early: set[Batch] = set()  # not started early again
        self._unstored: list[ComputedBatch] = []
        self._added: list[BatchResult] = []  # results that are not reported yet
        self._results: dict[int, list[BatchResult]] = {number: [] for number in range(CLEAN, len(work.specs))}
        self._passes, self._seconds = 0, 0.0
        self._stage = CLEAN
        self._clean_end = math.inf  # on the clock of `time.monotonic`
        self.table: list[AttackRow] = []
        progress.stage("clean", len(rows))

    def run(self, executor: BatchExecutor) -> None:
        """Compute and add up all batches; those left when no time is left stay untried."""
        while True:
            self._begin_batches(executor)
            self._begin_early(executor)  # before the results are stored: no process waits for the disk
            self._store()
            self._report(executor.places)
            self._advance_side_work(executor.places)
            if not self._in_progress and self._next is None:
                break
            if self._progress.time_left() <= 0:
                self._withdraw(executor)
            computed = executor.wait(_NOTICE_SECONDS)
            for one in computed:
                self._take(one)
            if not computed:
                self._progress.advance(0)
        while self._stage < len(self._work.specs):
            self._end_stage()

    def _advance_side_work(self, places: int) -> None:
        """Take the next part of the side work while other processes compute, or where none has come for a while.

        Where time is limited, take all parts before the attacks.
        """
        if self._stage == CLEAN:
            return
        if self._progress.time_left() < math.inf:
            for _ in self._side_work:
                self._progress.advance(0)
        elif places > 1 or time.monotonic() >= self._clean_end + _PATIENCE_SECONDS:
            next(self._side_work, None)

    def _begin_batches(self, executor: BatchExecutor) -> None:
        """Begin batches while the executor takes some; add the results that are there."""
        while (batch := self._next or self._schedule.next_batch()) is not None:
            self._next = None
            if (result := self._ledger.find(*batch)) is not None:
                self._add(result)
            elif batch in self._early:
                self._unstored.append(self._early.pop(batch))
                self._add(self._unstored[-1].result)
            elif batch in self._in_progress_early:
                self._in_progress_early.remove(batch)
                self._in_progress.add(batch)
            elif batch.attack == CLEAN and not self._compute:
                raise InvalidSpec(
                    "The audit was stopped before every image had a clean prediction, so there is no report yet. Resume it."
                )
            elif self._compute and (batch.attack == CLEAN or self._progress.time_left() > 0):
                if executor.free_places() < 1:
                    self._next = batch
                    return
                executor.submit(batch)
                self._in_progress.add(batch)

    def _withdraw(self, executor: BatchExecutor) -> None:
        """Leave the batches untried that had not started before the time was over; clean predictions are made in any case."""
        for batch in executor.withdraw():
            self._in_progress_early.discard(batch)
            if batch.attack == CLEAN:
                executor.submit(batch)
            else:
                self._in_progress.discard(batch)

    def _begin_early(self, executor: BatchExecutor) -> None:
        """Begin batches that are likely to come, where the executor has places and no batch is ready.

        An attack with many runs on few images has one batch a run, and most of these batches break no image.
        """
        if not self._in_progress or executor.free_places() < 1 or self._progress.time_left() <= 0:
            return
        for batch in islice(self._schedule.predict_batches(self._in_progress), 2 * executor.places):
            is_known = any(batch in batches for batches in (self._early, self._in_progress_early, self._failed_early))
            if not is_known and self._ledger.find(*batch) is None:
                executor.submit(batch)
                self._in_progress_early.add(batch)
                if executor.free_places() < 1:
                    return

    def _take(self, computed: ComputedBatch | FailedBatch) -> None:
        """Add a result, or keep it where its batch is not known to be needed; ignore one that comes a second time.

        Raises: the error of a batch that is needed. An early batch that failed is computed again if it comes to be needed.
        """
        if isinstance(computed, FailedBatch):
            if computed.batch in self._in_progress:
                raise computed.error
            self._in_progress_early.discard(computed.batch)
            self._failed_early.add(computed.batch)
            return
        batch = Batch(computed.result.attack, computed.result.run, computed.result.rows)
        if batch in self._in_progress:
            self._in_progress.remove(batch)
            self._unstored.append(computed)
            self._add(computed.result)
        elif batch in self._in_progress_early:
            self._in_progress_early.remove(batch)
            self._early[batch] = computed

    def _add(self, result: BatchResult) -> None:
        self._schedule.add(result)
        self._results[result.attack].append(result)
        self._added.append(result)
        self._passes += result.forward + result.backward
        self._seconds += result.seconds

    def _store(self) -> None:
        """Store new results on disk, the images of each first."""
        unstored, self._unstored = self._unstored, []
        for computed in unstored:
            if self._adversarial is not None and computed.adversarial is not None:
                self._adversarial.store(computed.result, computed.adversarial)
            self._ledger.add(computed.result)

    def _report(self, places: int) -> None:
        """Report the results that were added since the last call, and the remaining time."""
        added, self._added = self._added, []
        for result in added:
            self._progress.set_eta(self._estimate_rest() / places)
            self._progress.advance(self._count_units(result) if result.attack == self._stage else 0)
        while self._stage < len(self._work.specs) and self._schedule.is_complete(self._stage):
            self._end_stage()

    def _count_units(self, result: BatchResult) -> int:
        """Return the runs of images that a result settles: an image that it breaks needs no further run."""
        if result.attack == CLEAN:
            return len(result.rows)
        runs_after = self._work.attacks[result.attack].runs - result.run - 1
        return len(result.rows) + sum(digest != "" for digest in result.sha256) * runs_after

    def _end_stage(self) -> None:
        """Record the attack that ends, and begin the stage of the next one."""
        if self._stage == CLEAN:
            self._clean_end = time.monotonic()
        else:
            tried, untried, broken = self._schedule.count(self._stage)
            results = self._results[self._stage]
            row = AttackRow(
                name=str(self._work.specs[self._stage]),
                tried=tried,
                untried=untried,
                broken=broken,
                forward=sum(result.forward for result in results),
                backward=sum(result.backward for result in results),
                seconds=sum(result.seconds for result in results),
            )
            self.table.append(row)
            self._progress.record(row)
        self._stage += 1
        if self._stage == len(self._work.specs):
            return
        units = self._schedule.count(self._stage).tried * self._work.attacks[self._stage].runs
        self._progress.stage(str(self._work.specs[self._stage]), units)
        if done := sum(map(self._count_units, self._results[self._stage])):
            self._progress.advance(done)

    def _estimate_rest(self) -> float:
        """Estimate the largest remaining time in seconds, one batch at a time: if no more images break, at the mean pace."""
        passes = 0
        for number, run, images in self._schedule.count_waiting():
            passes += sum(self._max_passes[number + 1 :]) * images
            if number != CLEAN:
                runs = self._work.attacks[number].runs
                passes += self._max_passes[number] // runs * (runs - run) * images
        return passes * self._seconds / max(self._passes, 1)


def evaluate(  # noqa: PLR0913 - its options, all by keyword
    evaluator: Evaluator,
    threat: ThreatModel,
    specs: tuple[AttackSpec, ...],
    progress: Progress,
    ledger: Ledger | None = None,
    *,
    rows: Tensor | None = None,
    compute: bool = True,
    certify_images: bool = False,
    adversarial: AdversarialImages | None = None,
    open_executor: OpenExecutor = open_one_process,
    side_work: Iterable[object] = (),
) -> tuple[Evaluation, tuple[AttackRow, ...]]:
    """Return one row per image, and what each attack tried, broke and cost.

    Attacks run in order, run by run. Images that are misclassified clean are never attacked, and a run sees only the
    images that no earlier run broke. An image is robust when it is certified, or classified correctly
    clean and after every run (the pointwise worst case).

    Args:
        ledger: holds results of an earlier run, which are not computed again; stores every new batch.
        rows: row numbers of the images to evaluate, ascending; all when absent. The other images count as misclassified.
        compute: whether to compute what the ledger lacks. Otherwise these batches stay untried, so the true robust
            accuracy may be lower still. The same holds for batches left when `progress` has no time left, except clean
            predictions.
        certify_images: whether images that bounds certify are not attacked, where bounds cost less than they save.
        adversarial: stores the images that break others, where the evaluator keeps them.
        open_executor: opens what computes the batches; the results do not depend on it.
        side_work: parts of other work of this process, taken after the clean predictions: all at once where time is limited,
            else one at a time while other processes attack. The caller does those that are left at the end.
    Raises: InvalidSpec, ClassifierUnsuitable, OutOfMemory; Cancelled through `progress`; OSError of the ledger.
    """
    if ledger is None:
        ledger = Ledger(None, "", batch_size=choose_batch_size(evaluator))
    selected = list(range(len(evaluator.data))) if rows is None else rows.tolist()
    work = BatchWork(evaluator, threat, specs)
    if certify_images and compute and not any(result.attack == CERTIFIED for result in ledger):
        certified = certify(evaluator, threat, specs, selected, progress)
        if certified is not None:  # a resumed audit has the time for all images
            ledger.add(certified)
    evaluation = _EvaluationRun(
        work, ledger, progress, adversarial, selected, compute=compute, side_work=iter(side_work)
    )
    with open_executor(work) as executor:
        evaluation.run(executor)
    return evaluation.outcomes.to_evaluation(), tuple(evaluation.table)
