"""Test MALT's order of target classes against the closed form of linear classifiers, and its cost in passes."""

import pytest
import torch

from faal_core.attacks import build
from faal_core.attacks.apgd import Apgd
from faal_core.attacks.randomness import ImageRandom
from faal_core.attacks.targets import order_by_distance, order_by_logits
from faal_core.auditing.evaluator import record_passes
from faal_core.specs import ApgdSpec
from faal_core.threat_model import Norm, ThreatModel
from tests.linear_classifier import build_linear_classifier

SHAPE = (1, 4, 4)


def draw_images(count: int) -> torch.Tensor:
    """Return images near grey."""
    return 0.5 + 0.1 * torch.randn(count, *SHAPE, generator=torch.Generator().manual_seed(1)).clamp(-3, 3)


@pytest.mark.parametrize("norm", list(Norm))
def test_targets_are_ordered_by_the_distance_of_their_boundary(norm: Norm) -> None:
    """For a linear classifier the order is that of (z_y − z_t) / ‖w_y − w_t‖ in the dual norm; the order of logits is another."""
    classifier, x = build_linear_classifier(60, SHAPE), draw_images(20)
    logits, weight = classifier(x).detach(), classifier.backbone.linear.weight.detach()
    y = logits.argmax(1)
    difference = weight[y].unsqueeze(1) - weight
    sizes = difference.abs().sum(2) if norm is Norm.LINF else difference.norm(dim=2)
    distances = ((logits.gather(1, y.unsqueeze(1)) - logits) / sizes).scatter(1, y.unsqueeze(1), torch.inf)
    order = order_by_distance(classifier, x, y, norm, count=True)
    assert torch.allclose(distances.gather(1, order), distances.sort(1).values[:, :59], rtol=1e-4)
    assert (order[:, 0] != order_by_logits(logits, y)[:, 0]).any()


def test_order_costs_a_pass_for_each_class_once() -> None:
    """Nine targets cost the order once: one pass forward and one backward for each other class, up to 100."""
    classifier, x, threat = build_linear_classifier(120, SHAPE), draw_images(5), ThreatModel(epsilon=1e-6)
    y = classifier(x).argmax(1)
    spec = ApgdSpec(loss="dlr", targets=9, target_order="malt", iterations=2)

    def run(attack: Apgd, numbers: range) -> int:
        with record_passes(classifier) as passes:
            for number in numbers:
                attack.run(number, classifier, x, y, threat, ImageRandom(range(5), x.device))
        return passes.forward + passes.backward

    whole, later = Apgd(spec, 120), Apgd(spec, 120)
    assert run(whole, range(9)) + 9 * len(x) == len(x) * spec.passes(120)  # without the passes that judge the runs
    assert run(later, range(5, 9)) == 4 * len(x) * 5  # another process than that of the first run counts no order


def test_ten_classes_or_fewer_keep_the_order_of_logits() -> None:
    """With 10 classes both orders give the same images; with 11 they do not."""
    for classes, is_equal in ((10, True), (11, False)):
        classifier, x = build_linear_classifier(classes, SHAPE), draw_images(20)
        y = classifier(x).argmax(1)
        images = [
            build(ApgdSpec(loss="dlr", targets=3, target_order=order, iterations=3), classes).run(
                0, classifier, x, y, ThreatModel(epsilon=1e-3), ImageRandom(range(20), x.device)
            )
            for order in ("logits", "malt")
        ]
        assert torch.equal(*images) == is_equal
