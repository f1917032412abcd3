"""Audit blocks of images in random order until the intervals decide about limits; results/sequential.py decides."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, fields
from itertools import zip_longest
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from faal_core.auditing.batches import BatchExecutor, BatchWork, OpenExecutor, open_one_process
from faal_core.auditing.evaluation import evaluate
from faal_core.auditing.evaluator import Evaluator
from faal_core.errors import InvalidSpec
from faal_core.progress import Progress, ProgressPart
from faal_core.results.documents import AttackRow
from faal_core.results.image_outcomes import Evaluation, Rows
from faal_core.results.ledger import Ledger
from faal_core.results.sequential import Decisions, draw_blocks, summarise
from faal_core.results.sequential_documents import ClassDecision, SequentialResult
from faal_core.specs import AuditSpec, SequentialLimits


class _Block(NamedTuple):
    """Holds the row numbers of a block's images, one outcome for each of them, and the counts of each attack."""

    rows: Rows
    evaluation: Evaluation
    attacks: tuple[AttackRow, ...]


@dataclass(frozen=True)
class SequentialEvaluation:
    """Holds the outcomes of the images that a sequential audit has audited.

    Args:
        rows: places of these images in the data, ascending.
        evaluation: one row for each of them.
        attacks: counts of each attack on these images; the cost is that of all images that were attacked.
    """

    rows: Tensor
    evaluation: Evaluation
    attacks: tuple[AttackRow, ...]
    result: SequentialResult


def evaluate_sequentially(
    evaluator: Evaluator,
    spec: AuditSpec,
    limits: SequentialLimits,
    progress: Progress,
    ledger: Ledger,
    *,
    compute: bool = True,
    open_executor: OpenExecutor = open_one_process,
    side_work: Iterable[object] = (),
) -> SequentialEvaluation:
    """Audit block after block of the images of each undecided class, with all attacks, until the limits are decided.

    Every class has the first block, so that the report has all classes. In a later block, a class may miss its limit before all
    attacks have run. The audit then finishes the attacks on the block's images of this class, and leaves out those of the others.
    A block that the time does not suffice for is left out, except the first one.

    Args:
        compute: whether to compute batches; otherwise the audit ends at the first block that was not computed.
        open_executor: opens what computes the batches of all blocks; the results do not depend on it.
        side_work: work of this process, as `evaluate` does it.
    Raises: InvalidSpec for a limit of a class without images, and the errors of `evaluate`.
    """
    data = evaluator.data
    decisions = Decisions(data.labels.numpy(), data.class_names, limits, spec.confidence)
    is_out_of_time = False
    with open_executor(BatchWork(evaluator, spec.threat, spec.attacks)) as executor:
        blocks = _Blocks(evaluator, spec, decisions, progress, ledger, executor, iter(side_work), compute=compute)
        for drawn in draw_blocks(decisions.labels, spec.seed):
            rows = drawn[decisions.select_undecided()[drawn]]
            if decisions.status != "undecided" or not len(rows):
                break
            is_out_of_time = not blocks.audit(rows)
            if is_out_of_time:
                break
    rows, evaluation, attacks = blocks.join()
    for row in attacks:
        progress.record(row)
    statuses = decisions.statuses
    if any(row.untried for row in attacks):  # further attacks can only lower the rates
        statuses = ["undecided" if status == "pass" else status for status in statuses]
    status = summarise(statuses)
    result = SequentialResult(
        status=status,
        ended_by="decision" if status != "undecided" else "time" if is_out_of_time else "images",
        available=len(data),
        available_sha256=data.sha256,
        classes=tuple(
            ClassDecision(name=name, limit=limit, available=available, status=one)
            for name, limit, available, one in zip(
                decisions.names, decisions.limits.tolist(), decisions.available.tolist(), statuses, strict=True
            )
        ),
    )
    return SequentialEvaluation(torch.from_numpy(rows), evaluation, attacks, result)


class _BlockProgress(ProgressPart):
    """Reports each stage of a block once, though its batches are read from the ledger again before each further attack."""

    def __init__(self, whole: Progress, number: int) -> None:
        super().__init__(whole, f"block {number}", rows=False, limited=True)
        self._stages: set[str] = set()
        self._is_new = True

    def stage(self, name: str, total: int) -> None:
        """Begin a stage that has not been reported before."""
        self._is_new = name not in self._stages
        self._stages.add(name)
        if self._is_new:
            super().stage(name, total)

    def advance(self, count: int = 1) -> None:
        """Count units of a new stage as done; a call without units may still raise `Cancelled`."""
        super().advance(count if self._is_new else 0)


class _Blocks:
    """Audits blocks of images, and joins their outcomes."""

    def __init__(
        self,
        evaluator: Evaluator,
        spec: AuditSpec,
        decisions: Decisions,
        progress: Progress,
        ledger: Ledger,
        executor: BatchExecutor,
        side_work: Iterator[object],
        *,
        compute: bool,
    ) -> None:
        self._evaluator, self._spec, self._decisions = evaluator, spec, decisions
        self._progress, self._ledger, self._executor, self._compute = progress, ledger, executor, compute
        self._side_work = side_work
        self._part = _BlockProgress(progress, 1)
        self._blocks: list[_Block] = []

    def audit(self, rows: Rows) -> bool:
        """Audit the images at `rows`, and return whether the time sufficed."""
        is_first, self._part = not self._blocks, _BlockProgress(self._progress, len(self._blocks) + 1)
        compute = self._compute and (is_first or self._progress.time_left() > 0)
        try:
            block = self._run_attacks(rows, compute=compute) if is_first else self._narrow(rows, compute=compute)
        except InvalidSpec:
            if is_first or compute:
                raise
            return False  # the ledger lacks clean predictions of the block
        is_complete = not any(row.untried for row in block.attacks)
        if is_first or is_complete:
            self._blocks.append(block)
            self._decisions.add(block.rows, block.evaluation.robust)
        return is_complete

    def _narrow(self, rows: Rows, *, compute: bool) -> "_Block":
        """Run attack after attack, and leave out the other classes' images once a class has missed its limit.

        The images of that class, up to a block, then form other batches, which are computed from the beginning.
        """
        block = self._run_attacks(rows, 1, compute=compute)
        for attacks in range(2, len(self._spec.attacks) + 1):
            missed = self._decisions.find_missed(rows, block.evaluation.robust)
            if len(missed):
                rest = self._run_attacks(missed, compute=compute)
                costs = zip_longest(rest.attacks, block.attacks)
                return rest._replace(attacks=tuple(_add_cost(row, earlier) for row, earlier in costs))
            block = self._run_attacks(rows, attacks, compute=compute)
        return block

    def _run_attacks(self, rows: Rows, count: int | None = None, *, compute: bool) -> "_Block":
        """Run the first `count` attacks, all when absent; batches of the same images are read from the ledger."""
        evaluation, attacks = evaluate(
            self._evaluator,
            self._spec.threat,
            self._spec.attacks[:count],
            self._part,
            self._ledger,
            rows=torch.from_numpy(rows),
            compute=compute,
            open_executor=lambda _work: nullcontext(self._executor),
            side_work=self._side_work,
        )
        return _Block(rows, _select(evaluation, rows), attacks)

    def join(self) -> tuple[Rows, Evaluation, tuple[AttackRow, ...]]:
        """Return the row numbers of all audited images, ascending, their outcomes, and the counts of each attack."""
        rows = np.concatenate([block.rows for block in self._blocks])
        order = np.argsort(rows)
        attacks = tuple(
            AttackRow(
                name=table[0].name,
                **{
                    count: sum(getattr(row, count) for row in table) for count in ("tried", "untried", "broken", *_COST)
                },
            )
            for table in zip(*(block.attacks for block in self._blocks), strict=True)
        )
        return rows[order], _select(_concatenate([block.evaluation for block in self._blocks]), order), attacks


_COST = ("forward", "backward", "seconds")
_COLUMNS = [field.name for field in fields(Evaluation) if field.name != "certified"]  # every image is attacked


def _select(evaluation: Evaluation, places: Rows) -> Evaluation:
    """Return the outcomes at those places, in that order."""
    columns: dict[str, Any] = {name: np.array(getattr(evaluation, name))[places] for name in _COLUMNS}
    return Evaluation(**{**columns, "sha256": tuple(columns["sha256"].tolist())})


def _concatenate(evaluations: Sequence[Evaluation]) -> Evaluation:
    """Return the outcomes of all images, one evaluation after the other."""
    columns: dict[str, Any] = {name: np.concatenate([getattr(one, name) for one in evaluations]) for name in _COLUMNS}
    return Evaluation(**{**columns, "sha256": tuple(columns["sha256"].tolist())})


def _add_cost(row: AttackRow, other: AttackRow | None) -> AttackRow:
    """Return the row with the cost of the other one added to its own."""
    return row.model_copy(update={name: getattr(row, name) + getattr(other, name) for name in _COST if other})
