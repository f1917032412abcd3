"""Test whole audits: a bad classifier's own warning heads its report, and a good classifier's report has none."""

import re
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from faal_core import datasets
from faal_core.auditing import reliability
from faal_core.auditing.processes import Executors
from faal_core.auditing.run import run_audit
from faal_core.classifier import Classifier
from faal_core.datasets.labelled_images import LabelledImages
from faal_core.networks import build
from faal_core.progress import NoProgress
from faal_core.reports import terminal
from faal_core.specs import AuditSpec, ClassifierSpec, PgdSpec, SquareSpec
from faal_core.threat_model import Norm, ThreatModel
from faal_core.weights import read_classifier
from tests.robust_networks import (
    BASE,
    CNN_A,
    MARABOU_SMALL,
    RESNET4B,
    TRADES,
    Reference,
    needs_reference,
    robust_networks,  # noqa: F401 - a fixture
)

CPU = torch.device("cpu")
LINF, L2 = ThreatModel(epsilon=0.1), ThreatModel(norm=Norm.L2, epsilon=1)
LIBRARY = Path(str(files("faal_core")))
DOCUMENTED = Path(__file__).parents[4] / "docs/explanation/attacks.md"


def codes(classifier: Classifier, data: LabelledImages, threat: ThreatModel = LINF) -> set[str]:
    """Return the codes of the warnings of a small audit."""
    attacks = (PgdSpec(steps=10, loss="margin"), SquareSpec(queries=30))
    spec = AuditSpec(threat=threat, attacks=attacks, images=100, escalate=False)
    report = run_audit(classifier, data, spec, name="a classifier", device=CPU).report
    assert terminal.summary(report).startswith("Warning: ") == bool(report.warnings)
    return {warning.code for warning in report.warnings}


def fashion() -> LabelledImages:
    """Return the bundled test images."""
    return datasets.load("fashion-mnist-subset", "test")


def read_bundled_classifier() -> Classifier:
    """Return the bundled classifier, adversarially trained at ε = 0.1."""
    return read_classifier(Path(str(files("faal_core").joinpath("bundled/classifier.safetensors"))))


class Spoilt(nn.Module):
    """A network with a changed input or output."""

    def __init__(
        self,
        network: nn.Module,
        before: Callable[[Tensor], Tensor] | None = None,
        after: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        super().__init__()
        self.network, self.before, self.after = network, before, after

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits, changed."""
        z = self.network(self.before(x) if self.before else x)
        return self.after(z) if self.after else z


def spoil(
    before: Callable[[Tensor], Tensor] | None = None, after: Callable[[Tensor], Tensor] | None = None
) -> Classifier:
    """Return the bundled classifier with its normalised input or its logits changed."""
    good = read_bundled_classifier()
    return Classifier(Spoilt(good.backbone, before, after), good.spec)


def with_statistics_of_the_batch() -> Classifier:
    """Return the bundled classifier with batch-norm as in training."""
    classifier = read_bundled_classifier()
    for module in classifier.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.track_running_stats, module.running_mean, module.running_var = False, None, None
    return classifier


def with_spec(**changes: tuple[float, ...]) -> Classifier:
    """Return the bundled classifier with another normalisation."""
    good = read_bundled_classifier()
    return Classifier(good.backbone, good.spec.model_copy(update=changes))


class Blind(torch.autograd.Function):
    """An identity without a gradient."""

    @staticmethod
    def forward(_context: object, x: Tensor) -> Tensor:
        """Return the images."""
        return x.clone()

    @staticmethod
    def backward(_context: object, gradient: Tensor) -> Tensor:
        """Return zero."""
        return torch.zeros_like(gradient)


def trained_on_levels() -> Classifier:
    """Return the bundled classifier behind its own division by 255."""
    spec = ClassifierSpec(architecture="small_resnet", num_classes=10)
    return Classifier(Spoilt(read_bundled_classifier(), before=lambda x: x / 255), spec)


BAD: dict[str, tuple[set[str], Callable[[], Classifier]]] = {
    "random output": ({"random-output"}, lambda: spoil(after=lambda z: z + 0.3 * torch.randn_like(z))),
    "random input": ({"random-output"}, lambda: spoil(before=lambda x: x + 0.1 * torch.randn_like(x))),
    "softmax output": ({"softmax-output"}, lambda: spoil(after=lambda z: z.softmax(1))),
    "saturated logits": ({"saturated-logits"}, lambda: spoil(after=lambda z: 1000 * z)),
    "no gradient": (
        {"zero-gradient", "unbounded-attack-fails", "square-beats-gradients"},
        lambda: spoil(before=Blind.apply),
    ),
    "pixels cut to 0 and 1": ({"zero-gradient"}, lambda: spoil(before=lambda x: (x > 0.5).float())),
    "batch-norm in train mode": ({"batch-dependent"}, with_statistics_of_the_batch),
    "normalisation in levels": ({"pixel-range"}, lambda: with_spec(mean=(72.9,), std=(90.0,))),
    "normalisation of levels inside": ({"pixel-range"}, trained_on_levels),
}


@pytest.mark.slow
@pytest.mark.parametrize("fault", BAD)
def test_a_bad_classifiers_report_is_headed_by_its_warnings(fault: str) -> None:
    """Each fault, added to a good classifier, raises its own warnings."""
    own, make = BAD[fault]
    assert own <= codes(make(), fashion())


@pytest.fixture(scope="module")
def clean_network() -> Classifier:
    """Return a network trained for a few seconds on clean images alone."""
    torch.manual_seed(0)
    spec = ClassifierSpec(
        architecture="small_resnet", num_classes=10, mean=(0.286,), std=(0.353,), arguments={"width": 8}
    )
    classifier, data = build(spec).train(), datasets.load("fashion-mnist-subset", "train")
    optimiser = torch.optim.Adam(classifier.parameters(), 1e-2)
    for rows in torch.randperm(len(data)).split(64):
        loss = functional.cross_entropy(classifier(data.pixels(rows, CPU)), data.labels[rows])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return classifier


@pytest.mark.slow
@pytest.mark.parametrize("threat", [LINF, L2], ids=["linf", "l2"])
def test_a_good_classifiers_report_has_no_warning(threat: ThreatModel, clean_network: Classifier) -> None:
    """Neither a robust network nor one trained without attacks raises a warning."""
    assert codes(read_bundled_classifier(), fashion(), threat) == set()
    assert codes(clean_network, fashion(), threat) == set()


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_an_untrained_network_raises_none(seed: int, clean_network: Classifier) -> None:
    """An untrained network, which often predicts one class for all images, raises no warning about masked gradients."""
    torch.manual_seed(seed)
    assert _examine(build(clean_network.spec).eval(), fashion(), LINF) == []


@needs_reference
@pytest.mark.usefixtures("robust_networks")
@pytest.mark.parametrize(
    ("network", "epsilon"),
    [(RESNET4B, "8/255"), (CNN_A, "2/255"), (BASE, "2/255"), (MARABOU_SMALL, "2/255"), (TRADES, 0.3)],
    ids=str,
)
def test_other_projects_networks_raise_none(network: Reference, epsilon: float | str, tmp_path: Path) -> None:
    """Other projects' networks, robust or not, raise no warning at their own radius."""
    classifier, test = network.classifier(tmp_path), network.images()
    for threat in (ThreatModel(epsilon=epsilon), L2):
        assert _examine(classifier, test, threat) == []


def _examine(classifier: Classifier, data: LabelledImages, threat: ThreatModel, images: int = 64) -> list[str]:
    """Return the codes of the warnings before any attack, from images drawn with seed 0."""
    rows = torch.randperm(len(data), generator=torch.Generator().manual_seed(0))[:images]
    x = classifier.lay_out(data.pixels(rows, CPU))
    checks = reliability.ClassifierChecks(classifier, x, data.labels[rows], threat)
    return [warning.code for warning in checks.warnings]


class FirstUnits(NoProgress):
    """Notes the reports of finished units."""

    def __init__(self, order: list[str]) -> None:
        self._order = order

    def advance(self, count: int = 1) -> None:
        """Store that units are done."""
        self._order += ["prediction"] * (count > 0)


def test_images_are_predicted_before_gradients_are_examined() -> None:
    """The first clean predictions are reported before the checks and the attacks compute a gradient."""
    order: list[str] = []
    classifier = spoil(before=lambda x: order.append("gradient") or x if x.requires_grad else x)
    spec = AuditSpec(threat=LINF, attacks=(PgdSpec(steps=1),), images=20, certify=False)
    run_audit(
        classifier, fashion(), spec, name="bundled", device=CPU, progress=FirstUnits(order), executors=Executors(1)
    )
    assert order.index("prediction") == 0
    assert order.count("gradient") > 20  # of the checks, beside one of the attack


def test_logits_that_only_weaken_the_cross_entropy_are_noticed() -> None:
    """Logits at 12 times their scale raise a warning, because PGD by cross-entropy breaks fewer images with them.

    The test takes 256 images: rounding decides where the cross-entropy is flat, and the attacks differ on one image of 64.
    """
    assert _examine(spoil(after=lambda z: 12 * z).eval(), fashion(), LINF, 256) == ["saturated-logits"]


def test_every_code_is_explained() -> None:
    """docs/explanation/attacks.md has one row for each warning code of this library, and no other row."""
    source = "".join(path.read_text() for path in LIBRARY.rglob("*.py"))
    codes_in_source = re.findall(r'code="([a-z-]+)"', source)
    codes_in_docs = re.findall(
        r"^\| `([a-z-]+)` \|", DOCUMENTED.read_text().partition("## Trust checks")[2], re.MULTILINE
    )
    assert sorted(set(codes_in_source)) == sorted(codes_in_docs)
