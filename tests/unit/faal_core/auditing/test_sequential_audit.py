"""Test sequential audits of a linear classifier whose robust images are known: counts, ends, resuming and gates."""

from pathlib import Path

import numpy as np
import pytest
import torch

import faal_core
from faal_core.auditing.processes import Executors
from faal_core.auditing.result import AuditResult
from faal_core.auditing.run import run_audit
from faal_core.datasets.labelled_images import LabelledImages
from faal_core.errors import InvalidSpec
from faal_core.evidence.pack import write_pack
from faal_core.progress import Cancelled, NoProgress
from faal_core.reports.text import verdict
from faal_core.results.comparability import require_comparable
from faal_core.results.confidence_sequence import sequence_bounds
from faal_core.results.gates.judging import judge_audit
from faal_core.results.reading import read_report
from faal_core.results.sequential import BLOCK
from faal_core.specs import AuditSpec, PgdSpec, Policy
from tests.linear_classifier import build_linear_classifier

SHAPE, EPSILON = (1, 4, 4), 0.04
CLASSIFIER = build_linear_classifier(2, SHAPE)


def make_images(robust: tuple[float, float], images: int = 400) -> LabelledImages:
    """Return images of two classes, of which those fractions are robust: their smallest radius is 1.5 ε, that of others ε / 2."""
    generator = np.random.default_rng(1)
    weight = CLASSIFIER.backbone.linear.weight.detach()
    direction = (weight[0] - weight[1]).sign()
    labels = np.repeat([0, 1], images)
    is_robust = np.concatenate([generator.permutation(np.arange(images) < rate * images) for rate in robust])
    radii = np.where(is_robust, 1.5, 0.5) * EPSILON * generator.uniform(0.9, 1.1, 2 * images)
    signs = torch.from_numpy(np.where(labels == 0, radii, -radii)).float()
    x = 0.5 + signs[:, None] * direction
    return LabelledImages(x.reshape(-1, *SHAPE), torch.from_numpy(labels), ("a", "b"), "synthetic", "test")


def make_spec(limit: float = 0.25, **fields: object) -> AuditSpec:
    """Return the spec of a sequential audit with two attacks, each of which breaks every image that can be broken."""
    return AuditSpec.model_validate(
        {
            "threat": {"epsilon": EPSILON},
            "attacks": [PgdSpec(steps=8), PgdSpec(steps=8, loss="margin")],
            "sequential": {"min_worst": limit},
            **fields,
        }
    )


def audit(data: LabelledImages, spec: AuditSpec, **options: object) -> AuditResult:
    """Return the audit of the linear classifier."""
    return run_audit(CLASSIFIER, data, spec, name="linear", device=torch.device("cpu"), **options)


class Interrupted(NoProgress):
    """Cancels the audit after that many units of work, or has no time left from then on."""

    def __init__(self, units: int, *, cancels: bool = True) -> None:
        self._left, self._cancels = units, cancels

    def advance(self, count: int = 1) -> None:
        """Count the units."""
        self._left -= count
        if self._cancels and self._left < 0:
            raise Cancelled

    def time_left(self) -> float:
        """Return no time after the units."""
        return float("inf") if self._cancels or self._left > 0 else 0.0


def test_a_robust_classifier_passes_on_a_part_of_its_images() -> None:
    """Both classes reach the limit; the report counts the audited images alone, and its bounds hold at every number of images."""
    data = make_images((0.8, 0.4))
    result = audit(data, make_spec())
    report, rows = result.report, result.outcomes.rows
    assert report.sequential is not None
    assert (report.sequential.status, report.sequential.ended_by) == ("pass", "decision")
    assert (report.sequential.available, report.sequential.available_sha256) == (800, data.sha256)
    assert report.dataset.images == len(rows) == sum(row.images for row in report.classes) < 400
    truth = (data.images[torch.from_numpy(rows)] - 0.5).abs().amax((1, 2, 3)).numpy() > EPSILON
    for label, (row, decision) in enumerate(zip(report.classes, report.sequential.classes, strict=True)):
        assert (row.images % BLOCK, decision.status) == (0, "pass")
        assert row.robust.count == truth[data.labels[torch.from_numpy(rows)].numpy() == label].sum()
        bounds = sequence_bounds(np.array(row.robust.count), np.array(row.images), 0.975)
        assert [row.robust.low, row.robust.high] == [float(bound) for bound in bounds]
        assert row.robust.low >= 0.25
    assert report.classes[0].images < report.classes[1].images  # the more robust class is decided earlier
    assert (report.robust.gap_by_chance, report.groups) == (None, ())
    assert (report.attacks[0].tried, report.complete) == (len(rows), True)


def test_the_first_class_that_misses_the_limit_ends_the_audit() -> None:
    """The block in which a class misses its limit counts for this class alone, and all attacks try its images."""
    report = audit(make_images((0.3, 0.1)), make_spec()).report
    assert report.sequential is not None
    undecided, missed = report.sequential.classes
    assert (report.sequential.status, undecided.status, missed.status) == ("fail", "undecided", "fail")
    assert report.classes[1].images == report.classes[0].images + BLOCK
    images, (first, second) = report.dataset.images, report.attacks
    assert (first.tried, second.tried) == (images, images - first.broken)
    assert second.tried - second.broken == report.robust.mean.count


def test_an_audit_without_a_decision_uses_all_images() -> None:
    """A class at its limit stays undecided, and the audit of all images says so."""
    report = audit(make_images((0.8, 0.25), 150), make_spec()).report
    assert report.sequential is not None
    assert (report.sequential.status, report.sequential.ended_by) == ("undecided", "images")
    assert report.classes[1].images == 150
    sentence, *_ = verdict(report)
    assert (
        sentence == f"1 of 2 classes is undecided after {report.dataset.images} of 300 images: no more images are left."
    )


@pytest.mark.parametrize("blocks", [0, 1])
def test_a_resumed_audit_ends_at_the_same_images(blocks: int, tmp_path: Path) -> None:
    """An audit that is resumed decides as an undisturbed one, and so does one of other batches or more processes."""
    data, spec = make_images((0.5, 0.12)), make_spec(batch_size=30)
    units = 150 + 150 * blocks  # a block is 100 clean images, 100 of the first attack and about 30 of the second one
    whole = audit(data, spec)
    with pytest.raises(Cancelled):
        audit(data, spec, ledger=tmp_path / "a", progress=Interrupted(units))
    early = audit(data, spec, ledger=tmp_path / "b", progress=Interrupted(units, cancels=False)).report
    assert early.sequential is not None
    assert early.sequential.ended_by == "time"
    assert (early.dataset.images, early.complete) == (2 * BLOCK, bool(blocks))
    for resumed in (
        audit(data, spec, ledger=tmp_path / "a"),
        audit(data, spec, ledger=tmp_path / "b"),
        audit(data, spec, ledger=tmp_path / "a", compute=False),
    ):
        assert resumed.outcomes.sha256 == whole.outcomes.sha256
        assert resumed.report.sequential == whole.report.sequential
    for other in (audit(data, make_spec(batch_size=500)).report, audit(data, spec, executors=Executors(2)).report):
        assert (other.sequential, other.classes) == (whole.report.sequential, whole.report.classes)


@pytest.mark.parametrize(("robust", "status"), [((0.8, 0.5), "pass"), ((0.5, 0.1), "fail")])
def test_a_gate_with_the_same_limit_agrees(robust: tuple[float, float], status: str) -> None:
    """A gate with the audit's limit and confidence has its verdict; further limits are decided by the same intervals."""
    data = make_images(robust)
    report = audit(data, make_spec()).report
    accepted = tuple(warning.code for warning in report.warnings)
    policy = {"min_worst": 0.25, "accept_warnings": accepted}
    (worst,) = judge_audit(Policy.model_validate(policy), report).requirements
    assert (worst.status, worst.low, worst.high) == (status, report.robust.worst.low, report.robust.worst.high)
    scope = {"dataset_sha256": data.sha256}
    limits = {"min_robust": 0.01, "min_clean": 0.2, "max_gap": 0.9, "scope": scope, "accept_warnings": accepted}
    requirements = {one.name: one for one in judge_audit(Policy.model_validate(limits), report).requirements}
    assert {one.status for one in requirements.values()} == {"pass"}
    mean = requirements["min_robust"]
    assert mean.value == pytest.approx(
        np.mean([row.robust.rate for row in report.classes])
    )  # as many images are available
    with pytest.raises(InvalidSpec, match="sequential"):
        require_comparable(report, report)


def test_the_python_call_writes_a_readable_report(tmp_path: Path) -> None:
    """`decide_worst` makes an audit sequential; text and page give its decision, and its report cannot be packed."""
    data = make_images((0.8, 0.1))
    result = faal_core.audit(CLASSIFIER, data, epsilon=EPSILON, decide_worst=0.25, progress=False)
    result.save(tmp_path)
    assert read_report((tmp_path / "report.json").read_text()) == result.report
    counts = f"{result.report.dataset.images} of 800 images"
    sentence = f"The audit ended after {counts}, because the limit of robust accuracy is missed by b."
    assert sentence in str(result)
    page = (tmp_path / "report.html").read_text()
    assert sentence in page
    assert "Clopper" not in page
    with pytest.raises(InvalidSpec, match="sequential"):
        write_pack(tmp_path / "pack.zip", tmp_path)
    with pytest.raises(InvalidSpec, match="sequential"):
        audit(data, make_spec(), keep_adversarial=True)
