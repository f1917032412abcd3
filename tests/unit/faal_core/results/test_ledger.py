"""Test that image outcomes outlast a crash: torn lines, foreign files, and audits that resume."""

from collections import Counter
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch

from faal_core.auditing.evaluation import evaluate
from faal_core.auditing.evaluator import Evaluator
from faal_core.datasets.labelled_images import LabelledImages
from faal_core.errors import InvalidSpec, LedgerMismatch
from faal_core.progress import Cancelled, NoProgress
from faal_core.results.documents import AttackRow
from faal_core.results.image_outcomes import Evaluation
from faal_core.results.ledger import BatchResult, Ledger
from faal_core.specs import ApgdSpec, AttackSpec, FabSpec, PgdSpec, SquareSpec
from faal_core.threat_model import ThreatModel
from tests.linear_classifier import build_linear_classifier

ATTACKS: tuple[AttackSpec, ...] = (
    PgdSpec(steps=3, restarts=2),
    ApgdSpec(loss="dlr", targets=3, iterations=5),
    FabSpec(targets=2, iterations=3),
    SquareSpec(queries=10, margin_left=0.99),
)
UNIT = BatchResult(
    attack=0, run=1, rows=(3, 5), predicted=(1, 2), margin=(0.1, -0.2), logit_margin=(0.5, -1.0), distance=(0.5, 0.25),
    sha256=("", "ab"), forward=4, backward=2, seconds=0.5,
)  # fmt: skip


class StopsAfter(NoProgress):
    """Progress that cancels the audit after the first `batches` batches."""

    def __init__(self, batches: int) -> None:
        self._remaining = batches

    def advance(self, count: int = 1) -> None:
        """Count one batch."""
        self._remaining -= 1
        if self._remaining < 0:
            raise Cancelled("enough")


def run(ledger: Ledger | None, progress: NoProgress, *, compute: bool = True) -> tuple[Evaluation, list[AttackRow]]:
    """Return an evaluation of 40 images in batches of 7, and its attacks without their times."""
    images = torch.rand(40, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    classifier = build_linear_classifier(4, (1, 4, 4))
    data = LabelledImages(images, classifier(images).argmax(1), tuple("abcd"), "noise", "test")
    evaluator = Evaluator(classifier, data, device=torch.device("cpu"), batch_size=7, seed=0)
    evaluation, rows = evaluate(evaluator, ThreatModel(epsilon=0.02), ATTACKS, progress, ledger, compute=compute)
    return evaluation, [row.model_copy(update={"seconds": 0}) for row in rows]


def assert_equal(a: Evaluation, b: Evaluation) -> None:
    """Check that two evaluations are equal bit by bit."""
    for name, value in asdict(a).items():
        assert np.array_equal(value, asdict(b)[name]), name


def test_units_are_read_from_the_file(tmp_path: Path) -> None:
    """A unit is read from the file by exactly its attack, run and rows."""
    with Ledger(tmp_path / "l", "me") as ledger:
        ledger.add(UNIT)
    with Ledger(tmp_path / "l", "me") as again:
        assert again.find(0, 1, [3, 5]) == UNIT
        assert again.find(0, 1, [3]) is None
        assert again.find(0, 0, [3, 5]) is None


@pytest.mark.parametrize("length", [1, 20, -1])
def test_a_torn_line_is_dropped_and_written_over(tmp_path: Path, length: int) -> None:
    """A line that a crash cut off is ignored, and the next line replaces it."""
    path = tmp_path / "l"
    with Ledger(path, "me") as ledger:
        ledger.add(UNIT)
    whole = path.read_bytes()
    line = UNIT.model_copy(update={"run": 7}).model_dump_json().encode() + b"\n"
    path.write_bytes(whole + line[:length])
    with Ledger(path, "me") as ledger:
        assert list(ledger) == [UNIT]
        ledger.add(UNIT.model_copy(update={"run": 8}))
    with Ledger(path, "me") as ledger:
        assert [unit.run for unit in ledger] == [1, 8]


@pytest.mark.parametrize("content", ['{"identity": "other"}\n', "3\n", '"text"\n', "Chapter 1\nIt was night.\n", "x"])
def test_a_file_of_something_else_is_refused_and_left_alone(tmp_path: Path, content: str) -> None:
    """The ledger of another audit, or no ledger, is never written to."""
    path = tmp_path / "l"
    path.write_text(content)
    with pytest.raises(LedgerMismatch, match="not the ledger of this audit"):
        Ledger(path, "me")
    assert path.read_text() == content


def test_a_torn_first_line_is_written_again(tmp_path: Path) -> None:
    """A first line that a crash cut off is written again."""
    path = tmp_path / "l"
    path.write_text('{"identity"')
    with Ledger(path, "me") as ledger:
        ledger.add(UNIT)
    with Ledger(path, "me") as ledger:
        assert list(ledger) == [UNIT]


def test_a_line_that_is_no_unit_ends_the_valid_lines(tmp_path: Path) -> None:
    """A line of JSON that is no unit counts as torn, and the lines before it are kept."""
    path = tmp_path / "l"
    with Ledger(path, "me") as ledger:
        ledger.add(UNIT)
    with path.open("a") as file:
        file.write('{"identity": "me"}\n')
    with Ledger(path, "me") as ledger:
        assert list(ledger) == [UNIT]


def test_two_audits_do_not_share_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While one audit writes the file, another may read it unchanged, but not write to it."""
    monkeypatch.setattr("faal_core.results.ledger.PATIENCE_SECONDS", 0.2)
    path = tmp_path / "l"
    with Ledger(path, "me") as ledger:
        ledger.add(UNIT)
        with path.open("a") as file:
            file.write('{"attack": 0, "ru')  # the other process is in the middle of a line
        before = path.read_bytes()
        with pytest.raises(LedgerMismatch, match="in use"):
            Ledger(path, "me")
        with Ledger(path, "me", keep=False) as reader:
            assert list(reader) == [UNIT]
        assert path.read_bytes() == before


def test_an_audit_stopped_anywhere_resumes_to_the_same_result(tmp_path: Path) -> None:
    """An evaluation that stops and resumes after every batch is the same bit for bit, and computes no unit twice."""
    expected, rows = run(None, NoProgress())
    for stops in range(200):
        with Ledger(tmp_path / "l", "me") as ledger:
            try:
                evaluation, attack_rows = run(ledger, StopsAfter(stops))
                break
            except Cancelled:
                continue
    assert stops > 20
    assert_equal(evaluation, expected)
    assert attack_rows == rows
    with Ledger(tmp_path / "l", "me") as ledger:
        keys = [(unit.attack, unit.run, unit.rows) for unit in ledger]
    assert max(Counter(keys).values()) == 1
    assert len((tmp_path / "l").read_bytes().splitlines()) == 1 + len(keys)


def test_a_stopped_audit_is_an_upper_bound(tmp_path: Path) -> None:
    """The robust accuracy of a stopped audit is an upper bound, and attacks count the images that they did not try."""
    whole, _ = run(None, NoProgress())
    with Ledger(tmp_path / "l", "me") as ledger, pytest.raises(Cancelled):
        run(ledger, StopsAfter(22))
    before = (tmp_path / "l").read_bytes()
    with Ledger(tmp_path / "l", "me", keep=False) as ledger:
        partial, rows = run(ledger, NoProgress(), compute=False)
    assert (tmp_path / "l").read_bytes() == before
    assert (partial.robust >= whole.robust).all()
    assert rows[0].untried == 0
    assert rows[-1].untried == rows[-1].tried > 0


class EndsAfter(NoProgress):
    """Progress without time left after the first `batches` batches."""

    def __init__(self, batches: int) -> None:
        self._remaining = batches

    def advance(self, count: int = 1) -> None:
        """Count one batch."""
        self._remaining -= 1

    def time_left(self) -> float:
        """Return one second per batch."""
        return float(self._remaining)


def test_an_audit_whose_time_is_over_resumes_later(tmp_path: Path) -> None:
    """An audit out of time ends with an upper bound and all clean predictions; from its ledger it resumes to the whole result."""
    whole, attacks = run(None, NoProgress())
    with Ledger(tmp_path / "l", "me") as ledger:
        looked_at, _ = run(ledger, EndsAfter(1))
    assert np.array_equal(looked_at.robust, whole.correct)
    with Ledger(tmp_path / "l", "me") as ledger:
        partial, rows = run(ledger, EndsAfter(22))
    assert (partial.robust >= whole.robust).all()
    assert rows[0].untried == 0 < rows[-1].untried
    with Ledger(tmp_path / "l", "me") as ledger:
        evaluation, rows = run(ledger, NoProgress())
    assert_equal(evaluation, whole)
    assert rows == attacks


def test_no_partial_report_before_all_images_were_classified(tmp_path: Path) -> None:
    """Without the clean predictions of all images there is no partial report."""
    with Ledger(tmp_path / "l", "me") as ledger, pytest.raises(Cancelled):
        run(ledger, StopsAfter(2))
    with Ledger(tmp_path / "l", "me") as ledger, pytest.raises(InvalidSpec, match="there is no report yet"):
        run(ledger, NoProgress(), compute=False)


def test_a_ledger_of_an_earlier_version_still_opens(tmp_path: Path) -> None:
    """A ledger whose lines call the logit margin "lead", as version 0.1 did, has the same results."""
    path = tmp_path / "ledger"
    with Ledger(path, "audit") as ledger:
        ledger.add(UNIT)
    path.write_text(path.read_text().replace("logit_margin", "lead"))
    with Ledger(path, "audit") as ledger:
        assert list(ledger) == [UNIT]
