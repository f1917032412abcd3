"""Test one training step against a slow reference, and the surveys that methods get before an epoch."""

import copy
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

from faal_core.classifier import Classifier
from faal_core.datasets import load
from faal_core.devices import Pieces
from faal_core.errors import OutOfMemory, TrainingDiverged
from faal_core.networks import build
from faal_core.specs import (
    CfaMethod,
    ClassifierSpec,
    DafaMethod,
    DecoSamMethod,
    FaalMethod,
    FinetuneSpec,
    FsrMethod,
    MethodSpec,
)
from faal_core.threat_model import ThreatModel
from faal_core.training import methods, survey
from faal_core.training.head import freeze_features
from faal_core.training.inner_maximum import AttackBatch, perturb, start_attack
from faal_core.training.methods.method import Method
from faal_core.training.recipe import train
from faal_core.training.step import StepResult, training_step
from faal_core.training.survey import survey_rows
from tests.float64_classifier import Float64Classifier, convert_to_float64
from tests.linear_classifier import build_linear_classifier
from tests.training_runs import training_run

CPU = torch.device("cpu")
X = torch.rand(12, 1, 12, 12, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
Y = torch.arange(12) % 3
RATE, DECAY = 0.1, 5e-4
# L∞ steps follow the sign of a gradient, which rounding can flip near zero, even in float64.
SMOOTH = ThreatModel(norm="l2", epsilon=1)


def float32_network() -> Classifier:
    """Build a small residual network with batch-norm, of three classes, always with the same weights."""
    torch.manual_seed(0)
    spec = ClassifierSpec(architecture="small_resnet", num_classes=3, arguments={"width": 8})
    return build(spec).place(CPU)


def network() -> Classifier:
    """Build the same network in float64."""
    return convert_to_float64(float32_network()).place(CPU)


def method_of(spec: MethodSpec) -> Method:
    """Build the method, with radii and weights that differ between the classes."""
    method = methods.build(spec, 3)
    for name in ("accuracy", "weight"):
        if hasattr(method, name):
            setattr(method, name, torch.tensor([0.2, 0.9, 1.6]))
    return method


def loss_of(
    network: Classifier, x_adv: torch.Tensor, method: Method, loss: str, *, uniform_weights: bool
) -> torch.Tensor:
    """Return the mean loss of the batch, image by image as in docs/explanation/faal.md."""
    clean, adversarial = network(X).log_softmax(1), network(x_adv)
    weights = method.class_weights(adversarial.detach(), Y)
    adversarial, total = adversarial.log_softmax(1), torch.zeros(())
    for i, y in enumerate(Y.tolist()):
        divergence = (clean[i].exp() * (clean[i] - adversarial[i])).sum()
        if loss == "at":
            classification, divergence = -adversarial[i, y], torch.zeros(())
        elif loss == "trades":
            classification = -clean[i, y]
        else:
            other = max(adversarial[i, j].exp() for j in range(3) if j != y)
            classification = -adversarial[i, y] - (1 - other).log()
            divergence = divergence * (1 - clean[i, y].exp())
        v, w = (1.0, method.beta) if uniform_weights else (weights.classification[y], weights.divergence[y])
        total = total + v * classification + w * divergence
    return total / len(Y)


def batch_of(method: Method, spec: FinetuneSpec, generator: torch.Generator, x: torch.Tensor = X) -> AttackBatch:
    """Return the images with the starts of their attacks."""
    return start_attack(x, Y, method.relative_radius[Y], spec, generator)


def take_step(classifier: Classifier, method: Method, spec: FinetuneSpec, x: torch.Tensor = X) -> StepResult:
    """Take one step of plain SGD on the images."""
    optimizer = torch.optim.SGD(classifier.parameters(), lr=RATE)
    batch = batch_of(method, spec, torch.Generator().manual_seed(1), x)
    return training_step(classifier, optimizer, method, batch, training_run(spec, pieces=Pieces(12)))


def twin_step(classifier: Classifier, method: Method, spec: FinetuneSpec) -> torch.Tensor:
    """Take one step of SGD on `classifier`, written out, and return the adversarial images."""
    training, loss = spec.training, spec.method.loss
    generator = torch.Generator().manual_seed(1)
    classifier.eval()
    x_adv = perturb(classifier, batch_of(method, spec, generator), spec, len(X))
    classifier.train()
    shifts = [torch.zeros_like(parameter) for parameter in classifier.parameters()]
    if training.weight_perturbation:
        proxy = copy.deepcopy(classifier)
        loss_of(proxy, x_adv, method, loss, uniform_weights=not training.weight_perturbation.weighted).backward()
        shifts = [
            training.weight_perturbation.gamma * p.data.norm() * p.grad / p.grad.norm() if p.ndim > 1 else 0 * p.data
            for p in proxy.parameters()
        ]
    worse = copy.deepcopy(classifier)
    for parameter, shift in zip(worse.parameters(), shifts, strict=True):
        parameter.data += shift
    loss_of(worse, x_adv, method, loss, uniform_weights=False).backward()
    for parameter, there, shift in zip(classifier.parameters(), worse.parameters(), shifts, strict=True):
        parameter.data = there.data - RATE * (there.grad + DECAY * there.data) - shift
    for buffer, there in zip(classifier.buffers(), worse.buffers(), strict=True):
        buffer.copy_(there)
    return x_adv


@pytest.mark.parametrize("perturbation", [None, {"gamma": 0.1}, {"gamma": 0.1, "weighted": True}], ids=str)
@pytest.mark.parametrize(
    "method",
    [FaalMethod(), FaalMethod(loss="trades"), FaalMethod(loss="mart"), CfaMethod(), DafaMethod()],
    ids=str,
)
def test_a_step_equals_the_written_out_one(method: MethodSpec, perturbation: dict[str, Any] | None) -> None:
    """Attack, class weights, weight perturbation and SGD give the reference's parameters and batch-norm statistics."""
    training = {"attack": {"steps": 3}, "weight_perturbation": perturbation}
    spec = FinetuneSpec.model_validate({"threat": SMOOTH, "method": method, "training": training})
    one, two = network(), network()
    optimizer = torch.optim.SGD(one.parameters(), lr=RATE, momentum=0.9, weight_decay=DECAY)
    batch = batch_of(method_of(method), spec, torch.Generator().manual_seed(1))
    training_step(one, optimizer, method_of(method), batch, training_run(spec, pieces=Pieces(12)))
    twin_step(two, method_of(method), spec)
    for (name, a), b in zip(one.named_parameters(), two.parameters(), strict=True):
        assert torch.allclose(a, b, atol=1e-7), name
    for (name, a), b in zip(one.named_buffers(), two.buffers(), strict=True):
        if name.endswith("num_batches_tracked"):
            assert a == b == 2  # the clean and the adversarial batch
        elif "running" in name:
            assert torch.allclose(a, b, atol=1e-7), name


def test_a_step_of_decosam_equals_the_written_out_one() -> None:
    """The last layer's weights follow their gradient where each row is worse for its class's images; all else keeps its bits."""
    spec = FinetuneSpec.model_validate(
        {"threat": SMOOTH, "method": DecoSamMethod(tau=2), "training": {"attack": {"steps": 3}}}
    )
    one, two = network(), network().eval()
    method = methods.build(spec.method, 3)
    freeze_features(one)
    take_step(one, method, spec)
    weight = two.backbone.linear.weight
    x_adv = perturb(two, batch_of(method, spec, torch.Generator().manual_seed(1)), spec, len(X))
    radii = (-2 * weight.detach().norm(dim=1)).softmax(0)
    shift = torch.zeros_like(weight)
    for label, radius in enumerate(radii):
        own = label == Y
        (gradient,) = torch.autograd.grad(functional.cross_entropy(two(x_adv[own]), Y[own]), weight)
        shift[label] = radius * gradient[label] / gradient[label].norm()
    weight.data += shift
    (gradient,) = torch.autograd.grad(functional.cross_entropy(two(x_adv), Y), weight)
    weight.data -= shift + RATE * gradient
    for name, value in one.state_dict().items():
        reference = two.state_dict()[name]
        same = torch.allclose(value, reference, atol=1e-9) if "linear.weight" in name else torch.equal(value, reference)
        assert same, name
    assert not torch.allclose(weight, network().backbone.linear.weight, atol=1e-3)


def test_without_the_clean_forward_batch_norm_sees_the_adversarial_batch_alone() -> None:
    """With `clean_forward: false`, batch-norm updates its statistics by the adversarial batch alone."""
    spec = FinetuneSpec.model_validate(
        {"threat": ThreatModel(epsilon=0.1), "training": {"attack": {"steps": 1}, "clean_forward": False}}
    )
    classifier = network()
    take_step(classifier, methods.build(spec.method, 3), spec)
    assert {int(b) for name, b in classifier.named_buffers() if name.endswith("num_batches_tracked")} == {1}


def test_a_method_counts_the_images_of_every_step() -> None:
    """After a step, the method has counted the images of each class."""
    spec = FinetuneSpec(threat=ThreatModel(epsilon=0.1), method=CfaMethod())
    classifier, method = network(), methods.build(CfaMethod(), 3)
    take_step(classifier, method, spec)
    assert method.seen.tolist() == [4, 4, 4]


@pytest.mark.parametrize("perturbation", [None, {"gamma": 0.1, "weighted": True}], ids=str)
@pytest.mark.parametrize("method", [FaalMethod(), CfaMethod(), FaalMethod(dro_radius=0)], ids=str)
def test_logits_that_are_no_numbers_end_the_training(method: MethodSpec, perturbation: dict[str, Any] | None) -> None:
    """NaN weights raise TrainingDiverged, without a warning, before a method uses the logits for its class weights."""
    training = {"attack": {"steps": 1}, "weight_perturbation": perturbation}
    spec = FinetuneSpec.model_validate({"threat": SMOOTH, "method": method, "training": training})
    classifier = network()
    classifier.backbone.linear.bias.data[1] = torch.nan
    with pytest.raises(TrainingDiverged, match="logits became NaN"):
        take_step(classifier, methods.build(method, 3), spec)


def test_a_survey_counts_by_class() -> None:
    """Each mean of a survey equals that of the class's worst images, which are known for a linear classifier."""
    classifier = build_linear_classifier(2, (1, 6, 5)).train()
    x = 0.5 + 0.02 * torch.randn(30, 1, 6, 5, generator=torch.Generator().manual_seed(4))
    data = load("fashion-mnist-subset", "test").take(torch.arange(30))
    object.__setattr__(data, "images", x)
    object.__setattr__(data, "labels", torch.arange(30) % 2)
    radius = 0.01
    training = {"attack": {"steps": 40, "loss": "margin"}, "batch_size": 7}
    spec = FinetuneSpec.model_validate({"threat": {"epsilon": radius}, "training": training})
    rows = torch.arange(3, 30)
    run = training_run(spec, data, pieces=Pieces(5))
    result = survey_rows(classifier, rows, run, torch.Generator().manual_seed(0))
    assert not classifier.training
    weight = classifier.backbone.linear.weight.detach()
    for label in (0, 1):
        own = [i for i in rows.tolist() if i % 2 == label]
        way = (weight[1 - label] - weight[label]).view(1, 6, 5).sign()
        clean, adversarial = classifier(x[own]).detach(), classifier(x[own] + radius * way).detach()
        assert result.clean[label].item() == pytest.approx((clean.argmax(1) == label).double().mean().item())
        assert result.robust[label].item() == pytest.approx((adversarial.argmax(1) == label).double().mean().item())
        assert result.classification[label].item() == pytest.approx(
            -clean.log_softmax(1)[:, label].mean().item(), rel=1e-4
        )
        divergence = functional.kl_div(adversarial.log_softmax(1), clean.softmax(1), reduction="batchmean").item()
        assert result.divergence[label].item() == pytest.approx(divergence, rel=1e-3)
        assert result.confusion[label].tolist() == pytest.approx(adversarial.softmax(1).mean(0).tolist(), rel=1e-3)
    assert not torch.allclose(result.clean, result.robust)


@pytest.mark.parametrize(("method", "images"), [("frl", 30), ("wat", 30), ("cfa", 30), ("dafa", 120), ("faal", None)])
def test_a_survey_uses_the_images_that_the_method_requests(
    method: str, images: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """FRL, WAT and CFA survey the 30 validation images, DAFA the 120 training images, and FAAL none."""
    row_sets: list[torch.Tensor] = []

    def record_rows(classifier: Classifier, rows: torch.Tensor, *rest: Any) -> Any:
        row_sets.append(rows)
        return survey_rows(classifier, rows, *rest)

    monkeypatch.setattr(survey, "survey_rows", record_rows)
    train_part = load("fashion-mnist-subset", "train")
    data = train_part.take(train_part.stratified(150, 0))
    training = {"attack": {"steps": 1}, "learning_rates": [0.01], "validation_fraction": 0.2, "batch_size": 50}
    spec = FinetuneSpec.model_validate({"threat": {"epsilon": 0.1}, "method": {"type": method}, "training": training})
    torch.manual_seed(0)
    classifier = build(ClassifierSpec(architecture="small_resnet", num_classes=10, arguments={"width": 8}))
    result = train(classifier, data, spec, device=CPU)
    assert [len(rows) for rows in row_sets] == ([images] if images else [])
    assert result.validation_images == 30


def test_images_are_augmented_on_request() -> None:
    """A run with random crops gives other weights than the same run without them."""
    train_part = load("fashion-mnist-subset", "train")
    data = train_part.take(train_part.stratified(100, 0))
    ends = []
    for augment in ("none", "crop-flip"):
        training = {"attack": {"steps": 1}, "learning_rates": [0.01], "validation_fraction": 0, "augment": augment}
        spec = FinetuneSpec.model_validate({"threat": {"epsilon": 0.1}, "training": training})
        torch.manual_seed(0)
        classifier = build(ClassifierSpec(architecture="small_resnet", num_classes=10, arguments={"width": 8}))
        ends.append(next(train(classifier, data, spec, device=CPU).classifier.parameters()))
    assert not torch.equal(*ends)


def plain_network() -> Classifier:
    """Build two layers without batch-norm, of three classes, in float64, always with the same weights."""
    torch.manual_seed(0)
    layers = nn.Sequential(nn.Conv2d(1, 4, 3, 2), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 25, 3))
    return Float64Classifier(layers, ClassifierSpec(architecture="small_resnet", num_classes=3)).place(CPU)


PERTURBATIONS: list[dict[str, Any] | None] = [None, {"gamma": 0.1}, {"gamma": 0.1, "weighted": True}]


@pytest.mark.parametrize(
    ("method", "perturbation"),
    [
        *((FaalMethod(loss=loss), one) for loss in ("at", "trades", "mart") for one in PERTURBATIONS),
        (FsrMethod(), {"gamma": 0.1, "weighted": True}),
        (DecoSamMethod(), None),
    ],
    ids=str,
)
def test_out_of_memory_a_step_is_made_in_pieces_and_is_the_same(
    method: MethodSpec, perturbation: dict[str, Any] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A batch of twelve in pieces of at most five images gives the same loss, class weights and parameters."""
    training = {"attack": {"steps": 3}, "weight_perturbation": perturbation}
    spec = FinetuneSpec.model_validate({"threat": SMOOTH, "method": method, "training": training})
    whole, in_pieces = plain_network(), plain_network()
    results = []
    for classifier in (whole, in_pieces):
        if classifier is in_pieces:
            forward = Float64Classifier.forward

            def short_of_memory(self: Classifier, x: torch.Tensor, forward: Any = forward) -> torch.Tensor:
                if len(x) > 5:
                    raise torch.OutOfMemoryError("no room")
                return forward(self, x)

            monkeypatch.setattr(Float64Classifier, "forward", short_of_memory)
        results.append(take_step(classifier, methods.build(spec.method, 3), spec))
    assert results[0].loss == pytest.approx(results[1].loss, abs=2e-6)
    assert results[0].class_weights.tolist() == pytest.approx(results[1].class_weights.tolist(), abs=2e-6)
    for a, b in zip(whole.parameters(), in_pieces.parameters(), strict=True):
        assert torch.allclose(a, b, atol=1e-7)


def test_no_room_in_the_middle_of_a_step_leaves_no_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    """If memory runs out after the clean forward pass, weights and batch-norm statistics are those from before the step."""
    spec = FinetuneSpec.model_validate({"threat": {"epsilon": 0.1}, "training": {"attack": {"steps": 1}}})
    classifier = network()
    before = {name: value.clone() for name, value in classifier.state_dict().items()}
    forward = Float64Classifier.forward

    def short_of_memory(self: Classifier, x: torch.Tensor) -> torch.Tensor:
        if self.training and torch.is_grad_enabled():
            raise torch.OutOfMemoryError("no room")
        return forward(self, x)

    monkeypatch.setattr(Float64Classifier, "forward", short_of_memory)
    optimizer = torch.optim.SGD(classifier.parameters(), lr=RATE)
    method = methods.build(spec.method, 3)
    batch = batch_of(method, spec, torch.Generator())
    with pytest.raises(OutOfMemory, match="enough memory for 3 images"):
        training_step(classifier, optimizer, method, batch, training_run(spec, pieces=Pieces(12, least=3)))
    assert all(torch.equal(value, before[name]) for name, value in classifier.state_dict().items())


def test_in_bfloat16_weights_and_losses_stay_float32() -> None:
    """Convolutions return bfloat16, logits and parameters are float32, and the loss is within two per cent of float32's."""
    dtypes, ends = set(), []
    for precision in ("float32", "bfloat16"):
        training = {"attack": {"steps": 2}, "precision": precision}
        spec = FinetuneSpec.model_validate({"threat": {"epsilon": 0.1}, "training": training})
        classifier = float32_network()
        if precision == "bfloat16":
            classifier.backbone.stem.register_forward_hook(lambda _module, _inputs, output: dtypes.add(output.dtype))
        ends.append(take_step(classifier, methods.build(spec.method, 3), spec, X.float()).loss)
        assert {parameter.dtype for parameter in classifier.parameters()} == {torch.float32}
    assert dtypes == {torch.bfloat16}
    assert ends[1] == pytest.approx(ends[0], rel=0.02)
    assert ends[1] != ends[0]


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_an_attack_in_bfloat16_leaves_the_step_in_float32(precision: str) -> None:
    """Convolutions of the attack, in eval mode, return its precision; those of the step, in train mode, float32."""
    spec = FinetuneSpec.model_validate(
        {"threat": {"epsilon": 0.1}, "training": {"attack": {"steps": 2, "precision": precision}}}
    )
    classifier, dtypes = float32_network(), set[tuple[bool, torch.dtype]]()
    stem = classifier.backbone.stem
    stem.register_forward_hook(lambda module, _inputs, output: dtypes.add((module.training, output.dtype)))
    take_step(classifier, methods.build(spec.method, 3), spec, X.float())
    assert dtypes == {(False, getattr(torch, precision)), (True, torch.float32)}
