"""Read the results of an audit's batches, and add them up again as the audit did."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from pydantic import ValidationError

from faal_core.errors import InvalidSpec
from faal_core.evidence.refusal import PackRefused
from faal_core.results.documents import AuditReport
from faal_core.results.image_outcomes import Evaluation, ImageOutcomes, Rows
from faal_core.results.ledger import CLEAN, BatchResult


@dataclass(frozen=True, eq=False)
class BatchLines:
    """Holds the lines of a ledger.

    Args:
        lines: the line of each batch, without its line feed: the leaves of the Merkle tree.
        results: the same batches.
    """

    lines: tuple[bytes, ...]
    results: tuple[BatchResult, ...]


def parse_batches(content: bytes) -> BatchLines:
    """Return the batches in a ledger. Raises: PackRefused if a line is no batch."""
    _, *lines = content.splitlines() or [b""]
    if not lines or not content.endswith(b"\n"):
        raise PackRefused("The ledger has no batches, or ends within a line.")
    results = []
    for number, line in enumerate(lines, start=2):
        try:
            results.append(BatchResult.model_validate_json(line))
        except ValidationError:
            raise PackRefused(f"Line {number} of the ledger is no result of a batch.") from None
    return BatchLines(tuple(lines), tuple(results))


def select_whole_lines(ledger: bytes) -> bytes:
    """Return the ledger without a line that a crash left half-written. Raises: InvalidSpec if there is no batch."""
    whole = ledger[: ledger.rfind(b"\n") + 1]
    if whole.count(b"\n") < 2:
        raise InvalidSpec("The ledger has no finished batch. Name the file that faal audit wrote with --ledger.")
    return whole


def replay(batches: BatchLines, labels: Rows, report: AuditReport) -> Evaluation:
    """Return the outcomes that follow from the batches, with the rules of the audit.

    Raises: PackRefused if a batch does not fit the images.
    """
    images = len(labels)
    results = {(one.attack, one.run, one.rows): one for one in batches.results}
    runs = dict.fromkeys(sorted((one.attack, one.run) for one in batches.results if one.attack != CLEAN))
    for one in batches.results:
        lists = (one.predicted, one.margin, one.logit_margin, one.distance, one.sha256)
        in_range = all(0 <= row < images for row in one.rows)
        if not in_range or any(len(values) != len(one.rows) for values in lists):
            raise PackRefused("The ledger has a batch that does not fit the images of the report.")
    outcomes, budget = ImageOutcomes(labels), 10 * sum(len(one.rows) for one in batches.results) + 100 * images
    for rows in _split(np.arange(images), report.spec.batch_size):
        if (clean := results.get((CLEAN, 0, rows))) is not None:
            outcomes.add(clean)
    for number, attack in enumerate(report.spec.attacks):
        waiting = outcomes.find_undecided(attack.margin_left)
        for _, run in (one for one in runs if one[0] == number):
            budget -= len(waiting)
            if budget < 0:  # an audit has a batch for nearly each of them
                raise PackRefused("The ledger has runs that lack most of their batches.")
            for rows in _split(waiting, report.spec.batch_size):
                if (result := results.get((number, run, rows))) is not None:
                    outcomes.add(result)
            waiting = waiting[np.isin(waiting, outcomes.find_undecided())]
    return outcomes.to_evaluation()


def _split(rows: Rows, size: int) -> Iterator[tuple[int, ...]]:
    """Yield the rows in batches, as an audit does."""
    for start in range(0, len(rows), size):
        yield tuple(rows[start : start + size].tolist())
