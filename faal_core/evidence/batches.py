"""Read the results of an audit's batches, and add them up again as the audit did."""

from dataclasses import dataclass

from pydantic import ValidationError

from faal_core.errors import InvalidSpec
from faal_core.evidence import strict_json
from faal_core.evidence.refusal import PackRefused
from faal_core.results.documents import AuditReport
from faal_core.results.image_outcomes import Evaluation, ImageOutcomes, Rows
from faal_core.results.ledger import CERTIFIED, CLEAN, BatchResult
from faal_core.results.schedule import AttackCount, Schedule
from faal_core.specs.attacks import AttackSpec, PgdSpec, SquareSpec


@dataclass(frozen=True, eq=False)
class BatchLines:
    """Holds the lines of a ledger.

    Args:
        identity: digest of the audit, in the first line.
        lines: the line of each batch, without its line feed: the leaves of the Merkle tree.
        results: the same batches.
        batch_size: most images in a batch, in the first line; None in ledgers of earlier versions.
    """

    identity: str
    lines: tuple[bytes, ...]
    results: tuple[BatchResult, ...]
    batch_size: int | None = None


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
    size = fields.get("batch_size")
    if size is not None and (not isinstance(size, int) or size < 1):
        raise PackRefused(f"Line 1 of the ledger has batch_size {size!r:.40}. It must be a whole number of at least 1.")
    return BatchLines(identity, tuple(lines), tuple(results), size)


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
    results = {(one.attack, one.run, one.rows): one for one in batches.results}
    limits = [_count_runs(attack, report.classifier.spec.num_classes) for attack in report.attack_specs]
    _check_batches(batches, len(labels), limits)
    _check_certified(batches, labels, report)
    outcomes = ImageOutcomes(labels)
    for one in batches.results:
        if one.attack == CERTIFIED:
            outcomes.add(one)
    schedule = Schedule(outcomes, range(len(labels)), batches.batch_size or report.spec.batch_size)
    for attack, runs in zip(report.attack_specs, limits, strict=True):
        schedule.add_attack(runs, attack.margin_left)
    budget = 10 * sum(len(one.rows) for one in batches.results) + 100 * len(labels)
    seen: set[tuple[int, int]] = set()
    while (batch := schedule.next_batch()) is not None:
        if batch[:2] not in seen:
            seen.add(batch[:2])
            budget -= len(outcomes.find_undecided())
        if budget < 0:  # an audit has a batch for nearly each of them
            raise PackRefused("The ledger has runs that lack most of their batches.")
        if (result := results.get(batch)) is not None:
            schedule.add(result)
    return outcomes.to_evaluation(), [schedule.count(number) for number in range(len(limits))]


def _check_batches(batches: BatchLines, images: int, limits: list[int]) -> None:
    """Check that each batch is of a run of the audit, and of its images. Raises: PackRefused.

    Args:
        limits: number of runs of each attack.
    """
    for one in batches.results:
        is_known = one.run == 0 if one.attack in (CLEAN, CERTIFIED) else 0 <= one.attack < len(limits)
        if not is_known or (one.attack >= 0 and not 0 <= one.run < limits[one.attack]):
            raise PackRefused("The ledger has a run that the audit does not have.")
        lists = (one.predicted, one.margin, one.logit_margin, one.distance, one.sha256)
        in_range = all(0 <= row < images for row in one.rows)
        if not in_range or any(len(values) != len(one.rows) for values in lists):
            raise PackRefused("The ledger has a batch that does not fit the images of the report.")


def _check_certified(batches: BatchLines, labels: Rows, report: AuditReport) -> None:
    """Check that bounds certify only images with a positive bound, as their own class, in one batch. Raises: PackRefused."""
    certified = [one for one in batches.results if one.attack == CERTIFIED]
    if not certified:
        return
    is_consistent = len(certified) == 1 and report.spec.certify and report.spec.sequential is None
    (first, *_) = certified
    for row, predicted, bound in zip(first.rows, first.predicted, first.logit_margin, strict=True):
        is_consistent &= predicted == -1 or (predicted == labels[row] and bound > 0)
    if not is_consistent:
        raise PackRefused("The ledger certifies images that the audit cannot have certified.")


def _count_runs(attack: AttackSpec, num_classes: int) -> int:
    """Return the number of runs of the attack: its restarts, against each target where it has targets."""
    targets = 0 if isinstance(attack, PgdSpec | SquareSpec) else min(attack.targets, num_classes - 1)
    return max(targets, 1) * attack.restarts
