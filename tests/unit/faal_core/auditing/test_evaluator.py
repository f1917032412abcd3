"""Test the evaluator: the images that it attacks, the images that count as broken, and the cost in passes."""

import sys

import numpy as np
import pytest
import torch
from torch import nn

from faal_core import attacks
from faal_core.auditing.evaluation import evaluate
from faal_core.auditing.evaluator import Evaluator
from faal_core.auditing.run import summarise
from faal_core.classifier import Classifier
from faal_core.datasets.labelled_images import LabelledImages
from faal_core.datasets.matching import check_fit
from faal_core.devices import require_room
from faal_core.errors import ClassifierUnsuitable, InvalidSpec, OutOfMemory
from faal_core.progress import NoProgress
from faal_core.results.image_outcomes import ImageOutcomes
from faal_core.results.ledger import CLEAN, BatchResult, compute_identity
from faal_core.specs import ApgdSpec, AttackSpec, AuditSpec, ClassifierSpec, FabSpec, PgdSpec, SquareSpec
from faal_core.threat_model import Norm, ThreatModel
from tests.linear_classifier import build_linear_classifier, compute_smallest_radius

CPU = torch.device("cpu")
SHAPE = (1, 6, 5)


class FarAway:
    """An attack whose images are far outside of every ball."""

    runs = passes = 1

    def run(self, number, classifier, x, y, threat, random):
        """Return the inverted images plus five."""
        return 1 - x + 5


def two_class_images(count: int = 40) -> LabelledImages:
    """Return images near grey with the labels of the linear classifier, a quarter of them wrong on purpose."""
    x = 0.5 + 0.02 * torch.randn(count, *SHAPE, generator=torch.Generator().manual_seed(4))
    y = build_linear_classifier(2, SHAPE)(x).argmax(1)
    y[: count // 4] = 1 - y[: count // 4]
    return LabelledImages(x, y, ("a", "b"), "synthetic", "test")


def evaluator_of(data: LabelledImages, batch_size: int = 7) -> Evaluator:
    """Return an evaluator of the linear classifier on that data."""
    return Evaluator(build_linear_classifier(2, SHAPE), data, device=CPU, batch_size=batch_size, seed=0)


@pytest.mark.parametrize("norm", list(Norm))
def test_robust_accuracy_is_the_closed_form(norm: Norm) -> None:
    """The robust images are exactly the correct ones whose smallest radius exceeds ε, for any batch size."""
    data = two_class_images()
    radii = compute_smallest_radius(build_linear_classifier(2, SHAPE), data.images, data.labels, norm)
    epsilon = radii[10:].median().item() * 1.001
    clear = ((radii - epsilon).abs() > 0.05 * epsilon).numpy()
    threat, spec = ThreatModel(norm=norm, epsilon=epsilon), PgdSpec(steps=60, relative_step=0.1)
    for batch_size in (1, 7, 100):
        evaluation, _ = evaluate(evaluator_of(data, batch_size), threat, (spec,), NoProgress())
        expected = evaluation.correct & (radii > epsilon).numpy()
        np.testing.assert_array_equal(evaluation.robust[clear], expected[clear])
        assert (~evaluation.correct).sum() == 10
        assert evaluation.distance.max() <= epsilon + 1e-6


def test_only_undecided_images_are_attacked() -> None:
    """The first attack gets the clean-correct images, and the second only those that the first did not break."""
    data = two_class_images()
    radii = compute_smallest_radius(build_linear_classifier(2, SHAPE), data.images, data.labels, Norm.LINF)
    threat = ThreatModel(epsilon=radii[10:].median().item() * 1.001)
    spec = PgdSpec(steps=60, relative_step=0.1)
    evaluation, (first, second) = evaluate(evaluator_of(data), threat, (spec, spec), NoProgress())
    assert first.tried == 30
    assert second.tried == 30 - first.broken
    assert first.broken == (evaluation.broken_by == 0).sum() > 0
    assert first.backward < 60 * first.tried
    assert second.backward == 60 * second.tried  # PGD has already broken all it can


def test_the_evaluator_checks_the_images_of_every_attack(monkeypatch: pytest.MonkeyPatch) -> None:
    """Images outside of the ball are projected onto it and classified again before they count as broken."""
    data = two_class_images()
    monkeypatch.setattr(attacks, "build", lambda *_: FarAway())
    evaluation, _ = evaluate(evaluator_of(data), ThreatModel(epsilon=1e-6), (PgdSpec(),), NoProgress())
    assert evaluation.distance.max() <= 1e-6 + 1e-7
    assert evaluation.robust.sum() == 30


def test_same_seed_same_rows() -> None:
    """Two evaluations with the same seed agree bit for bit."""
    data = two_class_images()
    threat = ThreatModel(epsilon=0.01)
    one, _ = evaluate(evaluator_of(data), threat, (PgdSpec(steps=3),), NoProgress())
    two, _ = evaluate(evaluator_of(data), threat, (PgdSpec(steps=3),), NoProgress())
    for column in ("clean", "attacked", "broken_by", "distance", "clean_margin", "margin", "sha256"):
        np.testing.assert_array_equal(getattr(one, column), getattr(two, column))


def test_misfits_are_refused() -> None:
    """A classifier for other channels or another number of classes is refused before any computation."""
    data = two_class_images()
    with pytest.raises(InvalidSpec, match="3 channels"):
        Evaluator(build_linear_classifier(2, (3, 6, 5)), data, device=CPU, batch_size=8, seed=0)
    with pytest.raises(InvalidSpec, match="10 classes"):
        Evaluator(build_linear_classifier(10, SHAPE), data, device=CPU, batch_size=8, seed=0)


@pytest.mark.parametrize(("bias", "message"), [(float("nan"), "NaN"), (float("inf"), "infinite")])
def test_logits_must_be_finite(bias: float, message: str) -> None:
    """NaN or infinite logits are an error, never counted as robust."""
    evaluator = evaluator_of(two_class_images())
    evaluator.classifier.backbone.linear.bias.data.fill_(bias)
    with pytest.raises(ClassifierUnsuitable, match=message):
        evaluate(evaluator, ThreatModel(epsilon=0.1), (PgdSpec(),), NoProgress())


def test_images_too_small_for_the_network_are_refused() -> None:
    """A network whose convolutions do not fit into the images is refused with the size of the images."""
    backbone = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 9), torch.nn.Flatten())
    classifier = Classifier(backbone, ClassifierSpec(architecture="small_resnet", num_classes=2))
    evaluator = Evaluator(classifier, two_class_images(), device=CPU, batch_size=7, seed=0)
    with pytest.raises(ClassifierUnsuitable, match="does not accept images of 1 × 6 × 5"):
        evaluator.evaluate_clean(torch.arange(7))


def test_the_same_classes_in_another_order_are_refused() -> None:
    """A classifier whose class names have another order than the data's is refused, because labels would be wrong."""
    for names, fits in ((("a", "b"), True), (("x", "y"), True), (("b", "a"), False)):
        spec = ClassifierSpec(architecture="small_resnet", num_classes=2, class_names=names)
        classifier = Classifier(torch.nn.Flatten(), spec)
        if fits:
            check_fit(classifier, two_class_images())
        else:
            with pytest.raises(InvalidSpec, match="same classes in different orders"):
                check_fit(classifier, two_class_images())


@pytest.mark.parametrize(("first", "has_hint"), [(1, True), (0, False)])
def test_labels_that_begin_at_1_are_recognised(first: int, has_hint: bool) -> None:
    """One class too many, the first without images, gets a hint about labels from 1; with images of the first there is none."""
    labels = torch.arange(first, 5)
    data = LabelledImages(torch.zeros(len(labels), 1, 4, 4), labels, tuple("01234"), "from one", "test")
    with pytest.raises(InvalidSpec, match="has 4 classes and from one has 5") as error:
        check_fit(build_linear_classifier(4, (1, 4, 4)), data)
    assert ("store labels − 1" in error.value.message) == has_hint


def test_the_machines_own_memory_can_run_out_too() -> None:
    """A batch that does not fit into a CPU's memory raises an error with advice; other errors pass unchanged."""
    with pytest.raises(OutOfMemory, match="smaller batch size"), require_room(250):
        torch.empty(2**50)
    with pytest.raises(RuntimeError, match="else"), require_room(250):
        raise RuntimeError("something else")


def test_another_normalisation_is_another_audit() -> None:
    """The same weights with another mean have another identity, so that no ledger mixes the two."""
    classifier = build_linear_classifier(4, (1, 4, 4))
    images = torch.rand(8, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    data = LabelledImages(images, torch.arange(8) % 4, tuple("abcd"), "noise", "test")
    spec = AuditSpec(threat=ThreatModel(epsilon=0.1))
    other = Classifier(classifier.backbone, classifier.spec.model_copy(update={"mean": (0.5,)}))
    subjects = [
        compute_identity("FAAL 1", summarise(subject, name), data.sha256, spec)
        for subject, name in ((classifier, "a"), (classifier, "b"))
    ]
    assert subjects[0] == subjects[1] != compute_identity("FAAL 1", summarise(other, "a"), data.sha256, spec)


def test_answers_that_are_not_finite_during_an_attack_are_an_error() -> None:
    """A network that returns NaN once during an attack is refused, although its logits for the final images are finite."""

    class NanInTheFourthPass(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear, self.passes = nn.Linear(16, 4), 0

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.passes += 1
            logits: torch.Tensor = self.linear(x.flatten(1))
            return logits * torch.nan if self.passes == 4 else logits

    classifier = Classifier(NanInTheFourthPass(), build_linear_classifier(4, (1, 4, 4)).spec).eval()
    images = torch.rand(40, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    data = LabelledImages(images, torch.arange(40) % 4, tuple("abcd"), "noise", "test")
    evaluator = Evaluator(classifier, data, device=torch.device("cpu"), batch_size=40, seed=0)
    with pytest.raises(ClassifierUnsuitable, match="NaN"):
        evaluate(evaluator, ThreatModel(epsilon=1e-6), (SquareSpec(queries=20),), NoProgress())


class NanGradient(nn.Module):
    """A linear network plus a term that is zero, but whose gradient is NaN for bright images."""

    def __init__(self, linear: nn.Module) -> None:
        super().__init__()
        self.linear = linear

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the linear network's logits."""
        brightness = x.mean((1, 2, 3))
        nothing = 0 * (brightness * (brightness > 0.505)).sqrt().unsqueeze(1)
        return self.linear(x) + nothing


@pytest.mark.parametrize("norm", list(Norm))
@pytest.mark.parametrize("spec", [PgdSpec(), ApgdSpec(), FabSpec(targets=1)], ids=str)
def test_a_gradient_that_is_no_number_is_an_error(norm: Norm, spec: AttackSpec) -> None:
    """Finite logits with a NaN gradient are refused in both norms, although the sign of NaN would only move no pixel."""
    evaluator = evaluator_of(two_class_images())
    evaluator.classifier.backbone = NanGradient(evaluator.classifier.backbone)
    with pytest.raises(ClassifierUnsuitable, match="gradient is NaN"):
        evaluate(evaluator, ThreatModel(norm=norm, epsilon=1e-3), (spec,), NoProgress())


@pytest.mark.parametrize("cut_off", [lambda z: z.detach(), lambda z: (z > 0).float()], ids=["detached", "threshold"])
def test_without_a_gradient_attacks_break_no_image_and_square_runs(cut_off) -> None:
    """Networks without a gradient are audited: attacks by gradient break no image, and Square searches."""
    evaluator = evaluator_of(two_class_images())
    linear = evaluator.classifier.backbone

    class CutOff(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return cut_off(linear(x))

    evaluator.classifier.backbone = CutOff()
    specs = (PgdSpec(random_start=False), FabSpec(targets=1, iterations=5), SquareSpec(queries=200))
    _, rows = evaluate(evaluator, ThreatModel(epsilon=0.2), specs, NoProgress())
    assert [row.broken for row in rows[:2]] == [0, 0]
    assert rows[2].broken > 0


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_logits_may_have_any_precision(dtype: torch.dtype) -> None:
    """A network that computes in another precision is attacked as usual."""
    evaluator = evaluator_of(two_class_images())
    linear = evaluator.classifier.backbone

    class LowPrecision(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return linear(x).to(dtype)

    evaluator.classifier.backbone = LowPrecision()
    for spec in (ApgdSpec(loss="dlr"), FabSpec(targets=1), SquareSpec(queries=2000)):
        evaluation, _ = evaluate(evaluator, ThreatModel(epsilon=0.3), (spec,), NoProgress())
        assert not evaluation.robust.any()


def test_an_answer_that_is_no_tensor_is_refused() -> None:
    """The error for a network that returns a tuple names that type."""
    evaluator = evaluator_of(two_class_images())
    linear = evaluator.classifier.backbone

    class Pair(nn.Module):
        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return linear(x), x

    evaluator.classifier.backbone = Pair()
    with pytest.raises(ClassifierUnsuitable, match="returned a tuple"):
        evaluate(evaluator, ThreatModel(epsilon=0.1), (PgdSpec(),), NoProgress())


def test_every_run_of_every_attack_draws_its_own_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two restarts, and two equal attacks of one list, start from different random numbers on every image."""
    draws: list[torch.Tensor] = []

    class Draws:
        runs, passes = 2, 1

        def run(self, number, classifier, x, y, threat, random):
            draws.append(random.uniform(len(x), 4))
            return x

    monkeypatch.setattr(attacks, "build", lambda *_: Draws())
    evaluate(
        evaluator_of(two_class_images(), batch_size=40), ThreatModel(epsilon=0.1), (PgdSpec(), PgdSpec()), NoProgress()
    )
    every = torch.cat(draws).flatten()
    assert len(every) == 4 * 4 * 30
    assert len(every.unique()) == len(every)


def test_a_margin_is_the_least_that_any_attack_left() -> None:
    """An attack on images with little margin selects them by the least margin of all attacks before, not by the last."""
    data = two_class_images(8)
    outcomes = ImageOutcomes(data.labels.numpy())
    right = {"rows": (0, 1), "predicted": tuple(data.labels[:2].tolist()), "distance": (0, 0), "sha256": ("", "")}
    cost = {"forward": 1, "backward": 0, "seconds": 0}
    for attack, logit_margin in ((CLEAN, (4.0, 4.0)), (0, (1.0, 3.0)), (1, (3.0, 2.0))):
        outcomes.add(BatchResult(attack=attack, run=0, margin=(0.5, 0.5), logit_margin=logit_margin, **right, **cost))
    assert outcomes.find_undecided().tolist() == [0, 1]
    assert outcomes.find_undecided(0.25).tolist() == [0]
    assert outcomes.find_undecided(0.5).tolist() == [0, 1]


def test_a_cpu_passes_as_many_images_as_keep_the_largest_layer_in_its_cache() -> None:
    """A layer of 16 channels of 64 × 64 takes 256 KiB an image, so 24 images fit into 6 MiB; larger images have no limit."""
    network = nn.Sequential(nn.Conv2d(1, 16, 3, padding=1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 2))
    classifier = Classifier(network, build_linear_classifier(2, (1, 4, 4)).spec)
    assert classifier.images_in_cache(torch.Size((1, 64, 64))) == 24
    assert classifier.images_in_cache(torch.Size((2, 64, 64))) == sys.maxsize
