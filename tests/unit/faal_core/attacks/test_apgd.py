"""Test APGD's schedule, cost and losses; test_oracle.py tests its strength."""

import pytest
import torch

from faal_core.attacks import build
from faal_core.attacks.apgd import _Climb, list_checkpoints
from faal_core.attacks.ball import Ball
from faal_core.attacks.losses import dlr, probability_margin_loss, targeted_dlr
from faal_core.attacks.randomness import ImageRandom
from faal_core.auditing.evaluator import record_passes
from faal_core.specs import ApgdSpec
from faal_core.threat_model import Norm, ThreatModel
from tests.float64_classifier import convert_to_float64
from tests.linear_classifier import build_linear_classifier


def test_checkpoints_are_the_published_ones() -> None:
    """For 100 iterations the gaps between checkpoints are 22, 19, 16, 13, 10, 7 and then 6, as in section 3.1 of the paper."""
    assert sorted(list_checkpoints(100)) == [22, 41, 57, 70, 80, 87, 93, 99]


@pytest.mark.parametrize("iterations", [1, 2, 5, 10])
def test_few_iterations_have_checkpoints_within_them(iterations: int) -> None:
    """Every checkpoint is one of the iterations, even if there are few of them."""
    assert list_checkpoints(iterations) <= set(range(1, iterations + 1))


def test_steps_are_halved_where_the_loss_rose_too_seldom() -> None:
    """Condition 1 of section 3.1: only an image whose loss rose in at most 75 % of the steps goes back and halves its step.

    Of four steps, the loss of the first image rises in four and that of the second in three. So the second image returns to its
    best point with half its step, and the first keeps both.
    """
    x, y = torch.full((2, 1, 2, 2), 0.5), torch.zeros(2, dtype=torch.int64)
    climb = _Climb.begin(x, y, y, Ball(x, ThreatModel(epsilon=0.1)))
    for step, losses in enumerate([(0.0, 0.0), (1.0, 1.0), (2.0, 9.0), (3.0, 4.0), (4.0, 5.0)]):
        climb.x_adv = torch.full_like(x, 0.5 + step / 100)
        climb.record(torch.tensor(losses), torch.full_like(x, float(step)))
    climb.adapt_steps(4)
    assert climb.step.tolist() == pytest.approx([0.2, 0.1])
    assert climb.x_adv[:, 0, 0, 0].tolist() == pytest.approx([0.54, 0.52])
    assert climb.gradient[:, 0, 0, 0].tolist() == [4, 2]


def test_steps_are_halved_where_nothing_better_was_found() -> None:
    """Condition 2 of section 3.1: the step is halved if the best loss has not improved, unless it was halved the last time."""
    x, y = torch.full((1, 1, 2, 2), 0.5), torch.zeros(1, dtype=torch.int64)
    climb = _Climb.begin(x, y, y, Ball(x, ThreatModel(epsilon=0.1)))
    steps = []
    for losses in ([0.0, 7.0, 8.0, 9.0, 10.0], [1.0, 2.0, 3.0, 4.0], [5.0, 6.0, 7.0, 8.0], [5.5, 6.5, 7.5, 8.5]):
        for loss in losses:
            climb.record(torch.tensor([loss]), x)
        climb.adapt_steps(3)
        steps.append(round(climb.step.item(), 6))
    assert steps == [0.2, 0.1, 0.1, 0.05]


def test_a_step_keeps_a_quarter_of_the_last_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """A step is x + 0.75 (z − x) + 0.25 (x − previous), eq. 6 of the paper, with z the gradient step; the first step is z."""
    x, y = torch.full((1, 1, 2, 2), 0.5), torch.zeros(1, dtype=torch.int64)
    climb = _Climb.begin(x, y, y, Ball(x, ThreatModel(epsilon=0.1)))
    climb.previous, climb.step, climb.gradient = x - 0.02, torch.tensor([0.04]), torch.ones_like(x)
    climb.move(0.75)
    assert climb.x_adv.flatten().tolist() == pytest.approx([0.5 + 0.75 * 0.04 + 0.25 * 0.02] * 4)

    momenta: list[float] = []
    monkeypatch.setattr(_Climb, "move", lambda _self, share: momenta.append(share))
    classifier, images = build_linear_classifier(2, (1, 4, 4)), torch.full((1, 1, 4, 4), 0.6)
    label = classifier(images).argmax(1)
    random = ImageRandom([0], torch.device("cpu"))
    build(ApgdSpec(iterations=3), 2).run(0, classifier, images, label, ThreatModel(epsilon=1e-6), random)
    assert momenta == [1.0, 0.75, 0.75]


def test_losses_by_hand() -> None:
    """The difference of logits ratio and its targeted form have the values computed by hand from their equations."""
    logits, y, target = torch.tensor([[4.0, 1.0, 3.0, -2.0]]), torch.tensor([0]), torch.tensor([1])
    assert dlr(logits, y).item() == pytest.approx((3 - 4) / (4 - 1))
    assert targeted_dlr(logits, y, target).item() == pytest.approx((1 - 4) / (4 - (1 - 2) / 2))
    p = logits.softmax(1)[0]
    assert probability_margin_loss(logits, y).item() == pytest.approx((p[2] - p[0]).item())


@pytest.mark.parametrize("num_classes", [2, 3])
def test_losses_without_enough_classes_are_finite(num_classes: int) -> None:
    """With two or three classes both ratios are finite and positive exactly where the label is not ahead."""
    logits, y = torch.eye(num_classes) * 2, torch.zeros(num_classes, dtype=torch.int64)
    assert (dlr(logits, y) > 0).tolist() == [False] + [True] * (num_classes - 1)
    assert targeted_dlr(logits, y, y + 1).isfinite().all()


@pytest.mark.parametrize(("targets", "num_classes", "runs"), [(0, 10, 2), (9, 10, 18), (9, 3, 4), (9, 2, 2)])
def test_there_are_as_many_runs_as_targets_and_restarts(targets: int, num_classes: int, runs: int) -> None:
    """An attack has one run for each restart of each target, and no more targets than other classes."""
    assert build(ApgdSpec(loss="dlr", targets=targets, restarts=2), num_classes).runs == runs


@pytest.mark.parametrize("norm", list(Norm))
def test_cost_is_as_stated_and_broken_images_cost_nothing_more(norm: Norm) -> None:
    """A robust image takes iterations + 1 forward and iterations backward passes; an image broken at the start, one of each."""
    classifier = build_linear_classifier(10, (1, 4, 4))
    x = 0.5 + 0.1 * torch.randn(6, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    y, random = classifier(x).argmax(1), ImageRandom(range(6), x.device)
    attack, threat = build(ApgdSpec(iterations=7), 10), ThreatModel(norm=norm, epsilon=1e-6)
    with record_passes(classifier) as passes:
        attack.run(0, classifier, x, y, threat, random)
    assert (passes.forward, passes.backward) == (6 * 8, 6 * 7)
    half_wrong = torch.where(torch.arange(6) < 3, y, (y + 1) % 10)
    with record_passes(classifier) as passes:
        attack.run(0, classifier, x, half_wrong, threat, random)
    assert (passes.forward, passes.backward) == (3 * 8 + 3, 3 * 7 + 3)


def test_the_result_of_an_image_does_not_depend_on_its_batch() -> None:
    """An image ends at the same adversarial image alone and in a batch, up to rounding."""
    classifier = convert_to_float64(build_linear_classifier(10, (1, 4, 4)))
    x = 0.5 + 0.1 * torch.randn(8, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    y, attack, threat = classifier(x).argmax(1), build(ApgdSpec(iterations=20), 10), ThreatModel(epsilon=0.01)
    together = attack.run(0, classifier, x, y, threat, ImageRandom(range(8), x.device))
    alone = [
        attack.run(0, classifier, x[i : i + 1], y[i : i + 1], threat, ImageRandom([i], x.device)) for i in range(8)
    ]
    assert torch.allclose(together, torch.cat(alone), atol=1e-6)
