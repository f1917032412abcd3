"""Test the attacks that follow warnings: where defences hide gradients, they find what an attack finds that knows the defence."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import faal_core as faal
from faal_core import datasets
from faal_core.attacks.apgd import apgd
from faal_core.attacks.losses import margin_loss, targeted_dlr
from faal_core.attacks.randomness import ImageRandom
from faal_core.attacks.targets import select_target
from faal_core.auditing.evaluator import freeze_weights
from faal_core.auditing.processes import Executors
from faal_core.auditing.result import AuditResult
from faal_core.classifier import Classifier
from faal_core.datasets.labelled_images import LabelledImages
from faal_core.errors import InvalidSpec
from faal_core.evidence.batches import parse_batches, replay, select_whole_lines
from faal_core.evidence.statistics_check import list_unsupported
from faal_core.finetuning.audits import Audits
from faal_core.progress import NoProgress
from faal_core.reports.audit_text import summarise_audit
from faal_core.results.comparability import require_comparable
from faal_core.results.ledger import BatchResult
from faal_core.results.trust import doubtful_codes
from faal_core.specs import AuditSettings, FinetuneSpec, PgdSpec
from faal_core.specs.escalation import MISLEADING, plan_escalation
from faal_core.threat_model import ThreatModel
from faal_core.weights import read_classifier
from tests.linear_classifier import build_linear_classifier
from tests.planted_defences import PIXELS, plant
from tests.robust_networks import (
    CNN_A,
    RESNET4B,
    TRADES,
    Reference,
    needs_reference,
    robust_networks,  # noqa: F401 - a fixture
)

SHAPE, EPSILON = (1, 5, 5), 0.12
EPSILON_BUNDLED = 0.1  # at which the bundled network was trained
FLAGS = {
    "thresholds": "zero-gradient",
    "quantised input": "zero-gradient",
    "k-winners": "zero-gradient",
    "random layer": "random-output",
    "no graph": "zero-gradient",
    "logits × 100": "saturated-logits",
}


def draw_images(classifier: Classifier, count: int) -> tuple[Tensor, Tensor]:
    """Return random images with the labels that the classifier gives them, a tenth of them wrong."""
    generator = torch.Generator().manual_seed(1)
    x = torch.rand(count, *SHAPE, generator=generator)
    with torch.no_grad():
        y = classifier(x).argmax(1)
    y[::10] = 1 - y[::10]
    return x, y


def count_robust(name: str, classifier: Classifier, x: Tensor, y: Tensor) -> int:
    """Return the number of images that no perturbation breaks: of two linear logits, each pixel moves the margin on its own."""
    step = PIXELS.get(name, lambda pixels: pixels)
    weight = classifier.backbone.linear.weight.detach()
    lowering = -(weight[y] - weight[1 - y]).sign().view_as(x)
    worst = (x + EPSILON * lowering).clamp(0, 1)
    with torch.no_grad():
        return int((classifier(step(worst)).argmax(1) == y).sum())


SLOW = (
    "quantised input",
    "k-winners",
    "no graph",
)  # whose runs of Square take longest, and are like those of another defence


@pytest.mark.parametrize("name", [pytest.param(name, marks=[pytest.mark.slow] * (name in SLOW)) for name in FLAGS])
def test_escalation_finds_what_an_attack_finds_that_knows_the_defence(name: str) -> None:
    """Each defence of a linear network is flagged, and the verdict is within a point of the exact robust accuracy."""
    linear = build_linear_classifier(2, SHAPE)
    x, y = draw_images(linear, 400 if name == "random layer" else 100)
    exact = count_robust(name, linear, x, y)

    report = faal.audit(plant(name, linear), x, y, epsilon=EPSILON, attacks="quick", progress=False, processes=1).report

    assert FLAGS[name] in {warning.code for warning in report.warnings}
    assert report.escalation is not None
    assert abs(report.robust.mean.count - exact) <= 0.01 * len(y)


def read_bundled() -> Classifier:
    """Return the bundled network."""
    return read_classifier(Path(faal.__file__).parent / "bundled/classifier.safetensors")


def attack_knowing(defended: Classifier, bundled: Classifier, x: Tensor, y: Tensor) -> int:
    """Return the number of images that resist attacks with the defended logits and the gradient of the network behind them."""

    def network(images: Tensor) -> Tensor:
        with torch.no_grad():
            logits = defended(images)
        behind = bundled(images)
        return logits + (behind - behind.detach())

    robust, threat = defended(x).argmax(1) == y, ThreatModel(epsilon=EPSILON_BUNDLED)
    for rank in range(-1, 9):
        rows = robust.nonzero().squeeze(1)
        images, labels = x[rows], y[rows]
        target = select_target(defended, images, labels, max(rank, 0))
        loss = targeted_dlr if rank >= 0 else lambda z, y, _: margin_loss(z, y)
        random = ImageRandom(rows.tolist(), torch.device("cpu"))
        x_adv = apgd(network, images, labels, threat, 100, loss, target, random)
        robust[rows] &= defended(x_adv).argmax(1) == labels
    return int(robust.sum())


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in FLAGS if name != "random layer"])
def test_escalation_on_the_bundled_network_is_as_strong_as_a_hand_written_attack(name: str) -> None:
    """The adversarially trained network behind each defence is flagged, and hardly more images are robust than by hand."""
    bundled = read_bundled()
    data = datasets.load("fashion-mnist-subset", "test")
    data = data.take(data.stratified(100, 0))
    x, y = data.pixels(torch.arange(len(data)), torch.device("cpu")), data.labels
    defended = plant(name, bundled)

    report = faal.audit(defended, x, y, epsilon=EPSILON_BUNDLED, attacks="quick", progress=False).report

    assert FLAGS[name] in {warning.code for warning in report.warnings}
    with freeze_weights(bundled):
        assert report.robust.mean.count <= attack_knowing(defended, bundled, x, y) + 1


@pytest.mark.slow
@needs_reference
@pytest.mark.usefixtures("robust_networks")
@pytest.mark.parametrize(
    ("reference", "epsilon"), [(None, EPSILON_BUNDLED), (RESNET4B, 2 / 255), (CNN_A, 2 / 255), (TRADES, 0.3)]
)
def test_escalation_changes_nothing_on_robust_networks(
    reference: Reference | None, epsilon: float, tmp_path: Path
) -> None:
    """Robust networks get no warning that further attacks follow, and these would break hardly an image that `fast` left."""
    classifier = read_bundled() if reference is None else reference.classifier(tmp_path)
    data = datasets.load("fashion-mnist-subset", "test") if reference is None else reference.images()
    data = data.take(data.stratified(200, 0))
    alone = faal.audit(classifier, data, epsilon=epsilon, attacks="fast", progress=False).report
    attacks = alone.attack_specs
    followed = plan_escalation(MISLEADING, attacks)
    assert alone.escalation is None
    assert followed is not None

    both = faal.audit(
        classifier,
        data,
        epsilon=epsilon,
        attacks=[one.model_dump() for one in (*attacks, *followed.attacks)],
        progress=False,
    ).report

    assert alone.robust.mean.count - both.robust.mean.count <= 0.01 * len(data)


def audit_linear(name: str | None = None, **options: Any) -> AuditResult:
    """Audit a linear network, behind a defence if one is named."""
    linear = build_linear_classifier(2, SHAPE)
    x, y = draw_images(linear, 60)
    classifier = plant(name, linear) if name else linear
    result: AuditResult = faal.audit(
        classifier, x, y, epsilon=EPSILON, attacks="quick", progress=False, processes=1, **options
    )
    return result


def test_nothing_follows_without_a_warning() -> None:
    """A network that hides nothing gets the attacks of the spec alone, and the switch changes no number."""
    one, other = audit_linear(), audit_linear(escalate=False)
    assert one.report.escalation is None
    assert [row.name for row in one.report.attacks] == ["PGD-10 (cross-entropy)"]
    assert one.outcomes.sha256 == other.outcomes.sha256


def test_report_tells_attacks_that_followed_and_the_pack_follows_from_them(tmp_path: Path) -> None:
    """Each further attack has a row, its warnings and a column of each class; the numbers follow from outcomes and ledger."""
    result = audit_linear("logits × 100", ledger=tmp_path / "ledger")
    report = result.report
    assert report.escalation is not None
    assert report.escalation.draws == 1
    assert {step.warnings for step in report.escalation.steps} == {("saturated-logits",)}
    assert [row.name for row in report.attacks] == [str(spec) for spec in report.attack_specs]
    assert len(report.attacks) == 3
    before, after = (sum(row.after_attack[k].count for row in report.classes) for k in (0, 2))
    assert before - after == sum(row.broken for row in report.attacks[1:]) > 0
    (warning,) = (one for one in report.warnings if one.code == "saturated-logits")
    assert f"2 further attacks broke {before - after} of the {before} images" in warning.evidence
    assert f"2 further attacks broke {before - after} of the {before} images" in " ".join(summarise_audit(report))
    assert doubtful_codes(report) == ("saturated-logits",)
    assert list_unsupported(report, {"": report}, {"": result.outcomes}) == []
    batches = parse_batches(select_whole_lines((tmp_path / "ledger").read_bytes()))
    again, counts = replay(batches, result.evaluation.labels, report)
    assert again.sha256 == result.evaluation.sha256
    assert [count.tried for count in counts] == [row.tried for row in report.attacks]


def test_killed_audit_resumes_within_the_further_attacks(tmp_path: Path) -> None:
    """An audit whose ledger lost its last batches ends with the outcomes of an undisturbed one."""
    whole = audit_linear("logits × 100", ledger=tmp_path / "ledger")
    lines = (tmp_path / "ledger").read_bytes().splitlines(keepends=True)
    (tmp_path / "ledger").write_bytes(b"".join(lines[:-3]))
    assert BatchResult.model_validate_json(lines[-3]).attack > 0
    assert audit_linear("logits × 100", ledger=tmp_path / "ledger").outcomes.sha256 == whole.outcomes.sha256


def test_audits_with_different_further_attacks_are_not_compared() -> None:
    """A network with a warning and one without are compared only if the same attacks ran in both."""
    plain, hidden, unfollowed = (
        audit_linear(),
        audit_linear("logits × 100"),
        audit_linear("logits × 100", escalate=False),
    )
    with pytest.raises(InvalidSpec, match="After warnings about gradients"):
        require_comparable(plain.report, hidden.report)
    require_comparable(plain.report, unfollowed.report)


def test_fine_tuning_attacks_both_networks_alike() -> None:
    """A warning of the second audit has the first one repeated with the attacks that follow, from its own results."""
    linear = build_linear_classifier(2, SHAPE)
    x, y = draw_images(linear, 60)
    data = LabelledImages((x * 255).round().byte(), y, ("0", "1"), "drawn", "test")
    spec = FinetuneSpec(threat=ThreatModel(epsilon=EPSILON), audit=AuditSettings(attacks=(PgdSpec(),)))
    audits = Audits(data, data, spec, torch.device("cpu"), None, Executors(1))
    alone = audits.run(linear, "given", NoProgress())
    before, after = audits.run_after(linear, "given", alone, plant("logits × 100", linear), NoProgress())
    assert alone.report.escalation is None
    assert before.report.attack_specs == after.report.attack_specs
    assert before.batch_results[: len(alone.batch_results)] == alone.batch_results
    require_comparable(before.report, after.report)
