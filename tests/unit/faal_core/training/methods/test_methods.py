"""The weights and radii of each method for surveys and batches, against its paper's formulas computed by hand."""

import math
from typing import get_args

import pytest
import torch
from pydantic import ValidationError

from faal_core.specs import (
    METHODS,
    CfaMethod,
    CfolMethod,
    DafaMethod,
    DecoSamMethod,
    FinetuneSpec,
    FrlMethod,
    FsrMethod,
    MethodSpec,
    UniformMethod,
    WatMethod,
)
from faal_core.specs.methods import AnyMethod, CellMethod, TrainingMethod
from faal_core.training.losses import Terms
from faal_core.training.methods import build
from faal_core.training.methods.dafa import distance_aware_weights
from faal_core.training.methods.decosam import DecoSam
from faal_core.training.survey import Survey

LABELS = torch.tensor([0, 1, 2, 2])
WRONG_FOR_1 = torch.nn.functional.one_hot(torch.tensor([0, 2, 2, 2]), 3).float()


def survey(clean: list[float], robust: list[float], **other: list[float]) -> Survey:
    """Return a survey of three classes; fields without an argument are zero."""
    numbers = {name: torch.tensor(values, dtype=torch.float64) for name, values in other.items()}
    zero = torch.zeros(3, dtype=torch.float64)
    return Survey(
        clean=torch.tensor(clean, dtype=torch.float64),
        robust=torch.tensor(robust, dtype=torch.float64),
        classification=numbers.get("classification", zero),
        divergence=numbers.get("divergence", zero),
        confusion=torch.zeros(3, 3, dtype=torch.float64),
    )


def test_every_spec_of_a_method_is_registered() -> None:
    """The union of the specs and `METHODS` name the same methods, and each that trains builds a class of its own."""
    union, *_ = get_args(MethodSpec)
    bases = {AnyMethod, CellMethod, TrainingMethod}
    known = {spec for base in bases for spec in base.__subclasses__()} - bases
    assert set(METHODS) == set(get_args(union)) == known
    training = [spec() for spec in METHODS if issubclass(spec, TrainingMethod)]
    assert len({type(build(spec, 3)) for spec in training}) == len(training)


def test_uniform_weights_all_classes_equally() -> None:
    """The uniform method has weight 1 on the classification, β on the divergence, and radius ε."""
    method = build(UniformMethod(loss="trades", beta=6), 3)
    class_weights = method.class_weights(WRONG_FOR_1, LABELS)
    terms = Terms(WRONG_FOR_1, torch.tensor([1.0, 2, 3, 4]), torch.tensor([0.5, 0.5, 0, 1]))
    assert class_weights.weigh(terms, LABELS).tolist() == [4, 5, 3, 10]
    assert method.relative_radius.tolist() == [1, 1, 1]


def test_uniform_batches_are_the_shuffled_rows_in_order() -> None:
    """Every row is in one batch, batches follow the shuffled order, and their sizes differ by at most one image."""
    method, order = build(UniformMethod(), 3), torch.tensor([4, 2, 0, 1, 3])
    batches = [
        method.choose_rows(step, order, torch.zeros(5).long(), 2, torch.Generator()).tolist() for step in range(2)
    ]
    assert batches == [[4, 2], [0, 1, 3]]
    many = torch.arange(5400)
    sizes = [len(method.choose_rows(step, many, many, 43, torch.Generator())) for step in range(43)]
    assert (sum(sizes), set(sizes)) == (5400, {125, 126})


def test_frl_penalises_what_exceeds_the_mean() -> None:
    """FRL penalises only classes whose error exceeds the mean by more than the tolerance.

    Errors 0.1, 0.2, 0.6 with mean 0.3 give λ0 = 0.05 · 0.2 to the third; boundary errors 0.1, 0.5, 0.3, to the second.
    Weights are 1/k + λ − mean λ, divided by their mean over the batch.
    """
    method = build(FrlMethod(tolerance=0.1), 3)
    method.begin_epoch(0, lambda _: survey([0.9, 0.8, 0.4], [0.8, 0.3, 0.1]))
    clean, boundary = [0, 0, 0.05 * 0.2], [0, 0.1 * 0.1, 0]
    class_weights = method.class_weights(WRONG_FOR_1, LABELS)
    for penalties, weights, factor in (
        (clean, class_weights.classification, 1),
        (boundary, class_weights.divergence, 1.5),
    ):
        raw = [1 / 3 + penalty - sum(penalties) / 3 for penalty in penalties]
        mean = (raw[0] + raw[1] + 2 * raw[2]) / 4
        assert weights.tolist() == pytest.approx([factor * w / mean for w in raw], rel=1e-5)
    assert method.relative_radius.tolist() == [1, 1, 1]


def test_frl_penalties_are_bounded_and_never_negative() -> None:
    """The penalties of a kind sum to at most 0.5, however long a class fails, and return to 0 when no class fails."""
    method = build(FrlMethod(tolerance=0.0, clean_rate=5, boundary_rate=5), 3)
    for _ in range(5):
        method.begin_epoch(0, lambda _: survey([1, 1, 0], [1, 0, 0]))
    assert method.clean_penalty.sum() == pytest.approx(0.5)
    assert method.boundary_penalty.tolist() == pytest.approx([0, 0.5, 0])
    assert method.clean_penalty.min() >= 0


def test_frl_remargins_within_bounds() -> None:
    """FRL's radii are e^(2 λ2) ε, with λ2 = 0.2 · excess per epoch, and stay between 0.98 and 3."""
    method = build(FrlMethod(tolerance=0.0, remargin_rate=0.2), 3)
    method.begin_epoch(0, lambda _: survey([1, 1, 1], [1, 0.7, 0.4]))
    assert method.relative_radius.tolist() == pytest.approx([0.98, 1, math.exp(2 * 0.2 * 0.3)])
    for _ in range(20):
        method.begin_epoch(1, lambda _: survey([1, 1, 1], [1, 0.7, 0.4]))
    assert method.relative_radius[2] == pytest.approx(3)


def test_cfa_calibrates_radius_and_beta_by_robust_accuracy() -> None:
    """CFA's radii are ε (λ1 + t), its weights 1/(1 + β_y) and β_y/(1 + β_y), β_y = (λ2 + t) β; t is the robust accuracy."""
    method = build(CfaMethod(loss="trades", beta=6), 3)
    method.begin_epoch(0, lambda _: survey([1, 1, 1], [0.5, 0.25, 0]))
    beta = torch.tensor([1.0, 0.75, 0.5]) * 6
    assert method.relative_radius.tolist() == pytest.approx([0.8, 0.55, 0.3])
    assert torch.allclose(method.class_weights(WRONG_FOR_1, LABELS).classification, 1 / (1 + beta))
    assert torch.allclose(method.class_weights(WRONG_FOR_1, LABELS).divergence, beta / (1 + beta))
    method.observe(WRONG_FOR_1, LABELS)
    method.observe(WRONG_FOR_1[:1], torch.tensor([1]))
    method.begin_epoch(1, lambda _: pytest.fail("the batches are known"))
    assert method.relative_radius.tolist() == pytest.approx([1.3, 0.3, 1.3])
    method.begin_epoch(2, lambda _: pytest.fail("no image keeps what was known"))
    assert method.relative_radius.tolist() == pytest.approx([1.3, 0.3, 1.3])


def test_cfa_with_at_calibrates_the_radius_alone() -> None:
    """With AT, λ1 is 0.5 and all images have equal weight."""
    method = build(CfaMethod(), 3)
    method.begin_epoch(0, lambda _: survey([1, 1, 1], [0.5, 0.25, 0]))
    assert method.relative_radius.tolist() == pytest.approx([1, 0.75, 0.5])
    assert method.class_weights(WRONG_FOR_1, LABELS).classification.tolist() == [1, 1, 1]


def test_wat_hedges_between_the_classes_and_their_mean() -> None:
    """WAT's weights are k (s_c + s_mean), with s the softmax of 0.1 times the losses so far, the mean's included."""
    method = build(WatMethod(beta=6), 3)
    for _ in range(2):
        answer = survey([1, 1, 1], [1, 1, 1], classification=[1.0, 2.0, 3.0], divergence=[0.0, 0.5, 1.0])
        method.begin_epoch(0, lambda _, answer=answer: answer)  # type: ignore[misc]
    costs = [2 * 1.0, 2 * 5.0, 2 * 9.0, 2 * 5.0]
    shares = [math.exp(0.1 * cost) for cost in costs]
    weights = [3 * (share + shares[3]) / sum(shares) for share in shares[:3]]
    class_weights = method.class_weights(WRONG_FOR_1, LABELS)
    assert class_weights.classification.tolist() == pytest.approx(weights, rel=1e-5)
    assert class_weights.divergence.tolist() == pytest.approx([6 * weight for weight in weights], rel=1e-5)


def test_dafa_moves_weight_between_each_pair_as_the_double_loop_does() -> None:
    """DAFA's weights are, for i ≠ j: W_i += λ p_i(j) p_j(j) if i is the harder, otherwise W_i −= λ p_j(i) p_i(i)."""
    p = torch.rand(5, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64).softmax(1)
    expected = [1.0] * 5
    for i in range(5):
        for j in range(5):
            if i != j and p[i, i] < p[j, j]:
                expected[i] += 0.7 * float(p[i, j] * p[j, j])
            elif i != j:
                expected[i] -= 0.7 * float(p[j, i] * p[i, i])
    weights = distance_aware_weights(p, 0.7)
    assert weights.tolist() == pytest.approx(expected)
    assert weights.mean() == pytest.approx(1)


def test_dafa_surveys_once_after_its_warm_up() -> None:
    """DAFA is uniform before; then it has the same weight on classification and radius, and none on the divergence."""
    method = build(DafaMethod(warmup_epochs=1), 3)
    method.begin_epoch(0, lambda _: pytest.fail("too early"))
    assert method.relative_radius.tolist() == [1, 1, 1]
    answer = survey([1, 1, 1], [1, 1, 1])
    answer.confusion.copy_(torch.tensor([[0.8, 0.1, 0.1], [0.1, 0.6, 0.3], [0.1, 0.4, 0.5]]))
    method.begin_epoch(1, lambda part: answer if part == "training" else pytest.fail("training images are asked for"))
    method.begin_epoch(2, lambda _: pytest.fail("once is enough"))
    hardest = 1 + 0.1 * 0.8 + 0.4 * 0.6
    assert method.relative_radius[2].item() == pytest.approx(hardest)
    class_weights = method.class_weights(WRONG_FOR_1, LABELS)
    assert class_weights.classification.tolist() == method.relative_radius.tolist()
    assert class_weights.divergence.tolist() == [6, 6, 6]


def test_cfol_raises_what_fails_and_draws_it_more_often() -> None:
    """CFOL draws classes by p = γ/k + (1 − γ) softmax(gain) and adds η / p for a failed image; images of a class are equal."""
    method = build(CfolMethod(exploration=0.5, rate=1.0), 3)
    assert method.probabilities.tolist() == pytest.approx([1 / 3] * 3)
    method.observe(WRONG_FOR_1, LABELS)
    assert method.gain.tolist() == pytest.approx([0, 3, 0])
    exponentials = [1, math.exp(3), 1]
    shares = [0.5 / 3 + 0.5 * e / sum(exponentials) for e in exponentials]
    assert method.probabilities.tolist() == pytest.approx(shares)
    labels = torch.tensor([0] * 700 + [1] * 200 + [2] * 100 + [0] * 50)
    order = torch.randperm(1000, generator=torch.Generator().manual_seed(0))  # the last 50 are for validation
    rows = method.choose_rows(0, order, labels, 1, torch.Generator().manual_seed(0))
    frequencies = torch.bincount(labels[rows], minlength=3) / 1000
    assert frequencies.tolist() == pytest.approx(shares, abs=0.05)
    assert rows.max() < 1000
    assert len(method.choose_rows(3, order, labels, 4, torch.Generator())) == 250


def test_fsr_adds_the_spectral_norm_of_the_confusions() -> None:
    """For predictions without doubt, FSR adds λ ‖C‖₂ to a batch's loss, also if a class is absent; without confusions, 0."""
    y = torch.tensor([0] * 11 + [1] * 6 + [3] * 3)
    predictions = torch.tensor([0] * 5 + [1] * 4 + [2] * 2 + [1] * 4 + [0] * 2 + [3, 2, 0])
    shares = torch.tensor([[0, 4 / 11, 2 / 11, 0], [2 / 6, 0, 0, 0], [0, 0, 0, 0], [1 / 3, 0, 1 / 3, 0]])
    zero = torch.zeros(20, dtype=torch.float64)
    for answers, norm in ((predictions, torch.linalg.matrix_norm(shares.double(), 2)), (y, torch.zeros(()))):
        logits = 1e4 * torch.nn.functional.one_hot(answers, 4).double()
        class_weights = build(FsrMethod(strength=0.7), 4).class_weights(logits, y)
        loss = class_weights.weigh(Terms(logits, zero, zero), y).mean()
        assert loss.item() == pytest.approx(0.7 * norm.item(), rel=1e-6)
        assert class_weights.classification.tolist() == [1, 1, 1, 1]


def test_fsr_has_the_gradient_of_the_norm_by_the_probabilities() -> None:
    """The gradient of FSR's term is that of ‖C‖₂ by C, applied to the mean probabilities of each class, as autograd finds it."""
    generator = torch.Generator().manual_seed(0)
    logits = (2 * torch.randn(20, 4, generator=generator, dtype=torch.float64)).requires_grad_()
    y, zero = torch.arange(20) % 4, torch.zeros(20, dtype=torch.float64)
    loss = build(FsrMethod(strength=1), 4).class_weights(logits.detach(), y).weigh(Terms(logits, zero, zero), y).mean()
    others = 1 - torch.eye(4, dtype=torch.float64)
    confusion, means = (
        torch.stack([values[y == label].mean(0) for label in range(4)]) * others
        for values in (torch.nn.functional.one_hot(logits.argmax(1), 4).double(), logits.softmax(1))
    )
    confusion.requires_grad_()
    (by_confusion,) = torch.autograd.grad(torch.linalg.matrix_norm(confusion, 2), confusion)
    (gradient,), (expected,) = (torch.autograd.grad(one, logits) for one in (loss, (by_confusion * means).sum()))
    assert torch.allclose(gradient, expected, rtol=1e-9, atol=1e-12)
    assert gradient.norm() > 0.01


def test_decosam_perturbs_smaller_rows_within_larger_radii() -> None:
    """Rows of norm 0, log 2 and log 4 move along their gradients by 4/7, 2/7 and 1/7 for τ = 1, and by 1/3 for τ = 0."""
    weight = torch.tensor([[0, 0], [math.log(2), 0], [0, math.log(4)]])
    gradient = torch.tensor([[3.0, 4.0], [0.0, -0.001], [70.0, 0.0]])
    for tau, radii in ((1, [4 / 7, 2 / 7, 1 / 7]), (0, [1 / 3] * 3)):
        perturb_weight = DecoSam(DecoSamMethod(tau=tau), 3).choose_perturbation(None)
        expected = torch.tensor(radii).unsqueeze(1) * torch.tensor([[0.6, 0.8], [0, -1], [1, 0]])
        assert torch.allclose(perturb_weight(weight, gradient), expected)


def test_decosam_takes_no_other_perturbation_of_the_weights() -> None:
    """A spec that asks for DecoSAM and for adversarial weight perturbation is refused."""
    fields = {"threat": {"epsilon": 0.1}, "method": {"type": "decosam"}, "training": {"weight_perturbation": {}}}
    with pytest.raises(ValidationError, match="decosam perturbs weights in its own way"):
        FinetuneSpec.model_validate(fields)


def test_the_state_of_a_method_restores_it() -> None:
    """A new method that loads the state has the weights and draws of the old one."""
    for spec in (FrlMethod(), CfaMethod(), WatMethod(), CfolMethod(rate=1.0)):
        old, new = build(spec, 3), build(spec, 3)
        old.begin_epoch(0, lambda _: survey([0.9, 0.8, 0.1], [0.5, 0.2, 0.1], classification=[1.0, 2.0, 3.0]))
        old.observe(WRONG_FOR_1, LABELS)
        new.load_state_dict(old.state_dict())
        for method in (old, new):
            method.begin_epoch(1, lambda _: survey([0.9, 0.8, 0.1], [0.5, 0.2, 0.1]))
        assert torch.equal(old.relative_radius, new.relative_radius)
        emphases = [method.class_weights(WRONG_FOR_1, LABELS).classification for method in (old, new)]
        assert torch.equal(*emphases)
        assert all(torch.equal(a, b) for a, b in zip(old.buffers(), new.buffers(), strict=True))
