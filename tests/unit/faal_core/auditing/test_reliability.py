"""Test that bad classifiers raise their own warning, and good ones none."""

import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from faal_core.attacks.losses import compute_gradient, margin_loss
from faal_core.auditing.evaluator import record_passes
from faal_core.auditing.reliability import ClassifierChecks, examine_attacks
from faal_core.classifier import Classifier, Images, Labels
from faal_core.errors import ClassifierUnsuitable
from faal_core.results.documents import AttackRow, ReliabilityWarning
from faal_core.specs import AttackSpec, PgdSpec, SourceNetwork, SquareSpec, TransferSpec
from faal_core.threat_model import Norm, ThreatModel
from tests.linear_classifier import build_linear_classifier

SHAPE = (1, 5, 5)
LEVEL = 0.01  # pixels are multiples of it
THREAT = ThreatModel(epsilon=10 * LEVEL)


def examine(classifier: Classifier, x: Images, y: Labels, threat: ThreatModel) -> tuple[ReliabilityWarning, ...]:
    """Return all warnings about a classifier."""
    return ClassifierChecks(classifier, x, y, threat).warnings


def images() -> Tensor:
    """Return images at most 4 levels from grey."""
    noise = torch.randn(40, *SHAPE, generator=torch.Generator().manual_seed(0))
    return 0.5 + LEVEL * (1.5 * noise).round().clamp(-4, 4)


class Wrapper(nn.Module):
    """A network with one fault."""

    def __init__(self, network: nn.Module, kind: str) -> None:
        super().__init__()
        self.network, self.kind = network, kind

    def forward(self, x: Tensor) -> Tensor:
        """Return the network's logits, changed."""
        if self.kind == "noise":
            z = self.network(x)
            return z + 0.01 * torch.randn_like(z)
        if self.kind == "softmax":
            return self.network(x).softmax(1)
        if self.kind == "rounded pixels":
            return self.network((x * 50).round() / 50) + 0 * self.network(x)
        if self.kind == "large logits":
            return 1e4 * self.network(x)
        if self.kind == "statistics of the batch":
            return self.network(0.5 + 0.05 * functional.batch_norm(x, None, None, training=True))
        if self.kind == "reversed gradient":
            return 2 * self.network(x).detach() - self.network(x)
        if self.kind == "period of 30 levels":  # 20 levels further look like 10 levels nearer
            period = 30 * LEVEL
            return self.network(0.5 + (x - 0.5 + period / 2).remainder(period) - period / 2)
        # A slope of 6 at each level and of −4 between levels.
        return self.network(x + 5 * LEVEL / (2 * math.pi) * (2 * math.pi * x / LEVEL).sin())


@pytest.mark.parametrize(
    ("kind", "codes"),
    [
        ("noise", {"random-output"}),
        ("softmax", {"softmax-output"}),
        ("rounded pixels", {"zero-gradient", "unbounded-attack-fails"}),
        ("large logits", {"saturated-logits"}),
        ("statistics of the batch", {"batch-dependent"}),
        ("reversed gradient", {"unbounded-attack-fails"}),
        ("period of 30 levels", {"larger-radius-breaks-fewer", "unbounded-attack-fails"}),
        ("ripples of one level", {"more-steps-break-fewer"}),
    ],
)
def test_each_bad_classifier_raises_its_own_warning(kind: str, codes: set[str]) -> None:
    """Each fault gets its own warning, with evidence and advice, and no other warning.

    With a period of 30 levels, PGD climbs to the edge of its ball. At 10 levels it uses the whole radius; at 20 levels, and at
    the edge of the pixel range, its steps have turned around. With ripples, the first step of 10 levels follows a right
    gradient, but steps of 2.5 levels go forth and back. With two classes, a reversed gradient leads away from the other class.
    """
    torch.manual_seed(0)
    good = build_linear_classifier(2, SHAPE)
    bad = Classifier(Wrapper(good.backbone, kind), good.spec).eval()
    x = images()
    warnings = examine(bad, x, bad(x).argmax(1), THREAT)
    assert {warning.code for warning in warnings} == codes
    assert all(any(character.isdigit() for character in warning.evidence) and warning.advice for warning in warnings)


@pytest.mark.parametrize("threat", [THREAT, ThreatModel(norm=Norm.L2, epsilon=0.5), ThreatModel(epsilon=1)])
@pytest.mark.parametrize("num_classes", [2, 10, 200])
def test_a_good_classifier_raises_none(num_classes: int, threat: ThreatModel) -> None:
    """Plain logits with a gradient give no warning, whether the labels are right or wrong."""
    good = build_linear_classifier(num_classes, SHAPE)
    x = images()
    y = good(x).argmax(1)
    assert examine(good, x, y, threat) == ()
    assert examine(good, x[:2], y[:2], threat) == ()
    assert examine(good, x, (y + 1) % num_classes, threat) == ()


class Root(nn.Module):
    """A network on the root of the pixels, whose gradient is infinite for black pixels."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        """Return the network's logits."""
        return self.network(x.sqrt())


@pytest.mark.parametrize(("darkest", "part"), [(0.0, "at 40 of 40"), (0.3, "on the way from 40")])
def test_a_gradient_that_is_not_finite_is_a_warning_and_stops_attacks_that_need_it(darkest: float, part: str) -> None:
    """Only attacks with gradients refuse a network with an infinite gradient, because Square can still attack it.

    The second images have no black pixel; an attack reaches one on its way.
    """
    torch.manual_seed(0)
    good = build_linear_classifier(3, SHAPE)
    bad = Classifier(Root(good.backbone), good.spec).eval()
    x = images()
    x[:, :, 0, 0] = darkest
    y = bad(x).argmax(1)
    (warning,) = examine(bad, x, y, THREAT)
    assert (warning.code, part in warning.evidence) == ("nan-gradient", True)
    x[:, :, 0, 0] = 0
    with pytest.raises(ClassifierUnsuitable, match="square"):
        compute_gradient(margin_loss(bad(x.requires_grad_()), y), x)


class Range(nn.Module):
    """A network on pixels in a range of width `scale` from `lowest`."""

    def __init__(self, network: nn.Module, scale: float, lowest: float) -> None:
        super().__init__()
        self.network, self.scale, self.lowest = network, scale, lowest

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits."""
        return self.network((x - self.lowest) / self.scale)


@pytest.mark.parametrize(
    ("scale", "lowest", "name"), [(255, 0, "0 to 255"), (2, -1, "−1 to 1"), (1 / 0.015, -0.5 / 0.015, "mean 0")]
)
def test_pixels_in_another_range(scale: float, lowest: float, name: str) -> None:
    """A network trained on levels, on −1 to 1 or on standardised pixels gets a warning about its pixel range."""
    good = build_linear_classifier(10, SHAPE)
    other = Classifier(Range(good.backbone, scale, lowest), good.spec).eval()
    x = images()
    y = good(x).argmax(1)
    warnings = {warning.code: warning for warning in examine(other, x, y, THREAT)}
    assert f"; 40 with pixels moved to {name}" in warnings["pixel-range"].evidence or name == "mean 0"


@pytest.mark.parametrize(("mean", "std", "count"), [(0.5, 1, 0), (0, 1 / 255, 0), (127.5, 0.5, 1), (0.5, 58.4, 1)])
def test_a_normalisation_in_levels_of_255(mean: float, std: float, count: int) -> None:
    """A mean outside [0, 1], a std above 1 and a std of 1/255 raise the warning about the pixel range."""
    plain = build_linear_classifier(10, SHAPE)
    spec = plain.spec.model_copy(update={"mean": (mean,), "std": (std,)})
    classifier = Classifier(plain.backbone, spec).eval()
    x = images()
    warnings = examine(classifier, x, classifier(x).argmax(1), THREAT)
    assert [warning.code for warning in warnings].count("pixel-range") == count


CLIMB, SEARCH = PgdSpec(), SquareSpec()
TRANSFER = TransferSpec(source=SourceNetwork(name="other", sha256="0" * 64))


@pytest.mark.parametrize(
    ("specs", "broken", "evidence"),
    [
        ((CLIMB, SEARCH), (10, 3), "Square broke 3 of the 990 images it was tried on, 0.30% of all 1000"),
        ((CLIMB, SEARCH, SEARCH), (10, 2, 1), "Square broke 3 of the 990 images it was tried on, 0.30% of all 1000"),
        ((SEARCH, CLIMB, SEARCH), (500, 10, 3), "Square broke 3 of the 490 images it was tried on, 0.30% of all 1000"),
        ((CLIMB, SEARCH), (10, 2), None),
        ((SEARCH, CLIMB), (500, 10), None),
        ((SEARCH,), (500,), None),
        ((CLIMB, CLIMB), (10, 500), None),
        ((TRANSFER, SEARCH), (10, 500), None),
    ],
)
def test_square_after_the_gradients(
    specs: tuple[AttackSpec, ...], broken: tuple[int, ...], evidence: str | None
) -> None:
    """Square raises a warning if it breaks more than 0.2 % of all images after an attack with gradients, but not before one."""
    remaining, rows = 1000, []
    for spec, count in zip(specs, broken, strict=True):
        rows.append(AttackRow(name=str(spec), tried=remaining, broken=count, forward=0, backward=0, seconds=0))
        remaining -= count
    warnings = examine_attacks(specs, tuple(rows), 1000)
    assert [warning.code for warning in warnings] == ["square-beats-gradients"] * (evidence is not None)
    assert all(warning.evidence.startswith(evidence or "") for warning in warnings)


@pytest.mark.parametrize(("broken", "codes"), [(1, []), (2, ["square-beats-gradients"])])
def test_a_single_image_that_square_breaks_is_no_warning(broken: int, codes: list[str]) -> None:
    """One of 200 images is more than 0.2 %, but it may be chance; two are a warning."""
    rows = tuple(
        AttackRow(name=str(spec), tried=100, broken=count, forward=0, backward=0, seconds=0)
        for spec, count in ((CLIMB, 100), (SEARCH, broken))
    )
    assert [warning.code for warning in examine_attacks((CLIMB, SEARCH), rows, 200)] == codes


def test_measurements_leave_no_passes_to_the_warnings() -> None:
    """After all measurements, the warnings about gradients need no pass through the network; before, they need some."""
    classifier = build_linear_classifier(4, SHAPE)
    x = torch.rand(8, *SHAPE, generator=torch.Generator().manual_seed(0))
    y = classifier(x).argmax(1)
    measured, unmeasured = (ClassifierChecks(classifier, x, y, ThreatModel(epsilon=0.02)) for _ in range(2))
    for _ in measured.measure_gradients():
        pass
    with record_passes(classifier) as passes:
        warnings = measured.about_gradients
    assert passes.forward == 0
    with record_passes(classifier) as passes:
        assert unmeasured.about_gradients == warnings
    assert passes.forward > 0
