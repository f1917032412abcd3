"""Read the results of an audit's batches, and add them up again as the audit did."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from pydantic import ValidationError

from faal_core.errors import InvalidSpec
from faal_core.evidence import strict_json
from faal_core.evidence.refusal import PackRefused
from faal_core.results.documents import AuditReport
from faal_core.results.image_outcomes import Evaluation, ImageOutcomes, Rows
from faal_core.results.ledger import CLEAN, BatchResult
from faal_core.specs.audit import AttackSpec, PgdSpec, SquareSpec


@dataclass(frozen=True, eq=False)
class BatchLines:
    """Holds the lines of a ledger.

    Args:
        identity: digest of the audit, in the first line.
        lines: the line of each batch, without its line feed: the leaves of the Merkle tree.
        results: the same batches.
    """

    identity: str
    lines: tuple[bytes, ...]
    results: tuple[BatchResult, ...]


class AttackCount(NamedTuple):
    """Counts the images that an attack tried, and those of them that some runs did not reach."""

    tried: int
    untried: int


def parse_batches(content: bytes) -> BatchLines:
    """Return the batches in a ledger. Raises: PackRefused if a line is no batch, or the first one names no audit."""
    header, *lines = content.splitlines() or [b""]
    if not lines or not content.endswith(b"\n"):
        raise PackRefused("The ledger has no batches, or ends within a line.")
    results = []
    for number, line in enumerate(lines, start=2):
        try:
            results.append(BatchResult.model_validate_json(line))
        except ValidationError:
            raise PackRefused(f"Line {number} of the ledger is no result of a batch.") from None
    fields = strict_json.decode(header, "Line 1 of the ledger")
    identity = fields.get("identity") if isinstance(fields, dict) else None
    if not isinstance(identity, str):
        raise PackRefused("Line 1 of the ledger does not name its audit.")
    return BatchLines(identity, tuple(lines), tuple(results))


def select_whole_lines(ledger: bytes) -> bytes:
    """Return the ledger without a line that a crash left half-written. Raises: InvalidSpec if there is no batch."""
    whole = ledger[: ledger.rfind(b"\n") + 1]
    if whole.count(b"\n") < 2:
        raise InvalidSpec("The ledger has no finished batch. Name the file that faal audit wrote with --ledger.")
    return whole


def replay(batches: BatchLines, labels: Rows, report: AuditReport) -> tuple[Evaluation, list[AttackCount]]:
    """Return the outcomes that follow from the batches, with the rules of the audit, and the images that each attack tried.

    Raises: PackRefused if a batch does not fit the images.
    """
    images = len(labels)
    results = {(one.attack, one.run, one.rows): one for one in batches.results}
    runs = dict.fromkeys(sorted((one.attack, one.run) for one in batches.results if one.attack != CLEAN))
    limits = [_count_runs(attack, report.classifier.spec.num_classes) for attack in report.spec.attacks]
    _check_batches(batches, images, limits)
    outcomes, budget = ImageOutcomes(labels), 10 * sum(len(one.rows) for one in batches.results) + 100 * images
    for rows in _split(np.arange(images), report.spec.batch_size):
        if (clean := results.get((CLEAN, 0, rows))) is not None:
            outcomes.add(clean)
    counts = []
    for number, attack in enumerate(report.spec.attacks):
        tried = waiting = outcomes.find_undecided(attack.margin_left)
        untried, next_run = np.zeros(images, bool), 0
        for run in (run for one, run in runs if one == number):
            if run > next_run:  # the ledger has no batch of a run before it
                untried[waiting] = True
            next_run = run + 1
            budget -= len(waiting)
            if budget < 0:  # an audit has a batch for nearly each of them
                raise PackRefused("The ledger has runs that lack most of their batches.")
            for rows in _split(waiting, report.spec.batch_size):
                if (result := results.get((number, run, rows))) is not None:
                    outcomes.add(result)
                else:
                    untried[list(rows)] = True
            waiting = waiting[np.isin(waiting, outcomes.find_undecided())]
        if next_run < limits[number]:
            untried[waiting] = True
        counts.append(AttackCount(len(tried), int(untried.sum())))
    return outcomes.to_evaluation(), counts


def _check_batches(batches: BatchLines, images: int, limits: list[int]) -> None:
    """Check that each batch is of a run of the audit, and of its images. Raises: PackRefused.

    Args:
        limits: number of runs of each attack.
    """
    for one in batches.results:
        is_known = one.run == 0 if one.attack == CLEAN else 0 <= one.attack < len(limits)
        if not is_known or (one.attack != CLEAN and not 0 <= one.run < limits[one.attack]):
            raise PackRefused("The ledger has a run that the audit does not have.")
        lists = (one.predicted, one.margin, one.logit_margin, one.distance, one.sha256)
        in_range = all(0 <= row < images for row in one.rows)
        if not in_range or any(len(values) != len(one.rows) for values in lists):
            raise PackRefused("The ledger has a batch that does not fit the images of the report.")


def _count_runs(attack: AttackSpec, num_classes: int) -> int:
    """Return the number of runs of the attack: its restarts, against each target where it has targets."""
    targets = 0 if isinstance(attack, PgdSpec | SquareSpec) else min(attack.targets, num_classes - 1)
    return max(targets, 1) * attack.restarts


def _split(rows: Rows, size: int) -> Iterator[tuple[int, ...]]:
    """Yield the rows in batches, as an audit does."""
    for start in range(0, len(rows), size):
        yield tuple(rows[start : start + size].tolist())
