"""The terms of training losses, against their formulas written out image by image in float64."""

import math

import pytest
import torch

from faal_core.training.losses import adversarial_cross_entropy, mart, trades

CLEAN = torch.tensor([[2.0, 0.5, -1.0], [0.1, 0.2, 0.3], [-1.0, 3.0, 3.0]], dtype=torch.float64)
ADVERSARIAL = torch.tensor([[0.5, 1.0, -0.5], [0.0, 0.0, 0.0], [2.0, -1.0, 1.5]], dtype=torch.float64)
LABELS = torch.tensor([0, 2, 1])


def softmax(row: torch.Tensor) -> list[float]:
    """Return the probabilities."""
    exponentials = [math.exp(z) for z in row.tolist()]
    return [e / sum(exponentials) for e in exponentials]


def rows() -> list[tuple[list[float], list[float], int]]:
    """Return clean and adversarial probabilities and the label of each image."""
    return [(softmax(z), softmax(a), y) for z, a, y in zip(CLEAN, ADVERSARIAL, LABELS.tolist(), strict=True)]


def kl(p: list[float], q: list[float]) -> float:
    """Return Σ p log p / q."""
    return sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))


def test_at_is_the_cross_entropy_of_the_adversarial_images() -> None:
    """AT's loss is −log q_y, without a divergence."""
    terms = adversarial_cross_entropy(ADVERSARIAL, LABELS)
    assert terms.classification.tolist() == pytest.approx([-math.log(q[y]) for _, q, y in rows()])
    assert terms.divergence.tolist() == [0, 0, 0]


def test_trades_is_clean_cross_entropy_and_divergence() -> None:
    """TRADES' loss is −log p_y and KL(p‖q)."""
    terms = trades(CLEAN, ADVERSARIAL, LABELS)
    assert terms.classification.tolist() == pytest.approx([-math.log(p[y]) for p, _, y in rows()])
    assert terms.divergence.tolist() == pytest.approx([kl(p, q) for p, q, _ in rows()], abs=1e-6)


def test_mart_is_boosted_and_weighs_the_divergence_by_the_missing_probability() -> None:
    """MART's loss is −log q_y − log(1 − the greatest other q), and KL(p‖q) (1 − p_y)."""
    terms = mart(CLEAN, ADVERSARIAL, LABELS)
    others = [max(q[:y] + q[y + 1 :]) for _, q, y in rows()]
    losses = [-math.log(q[y]) - math.log(1 - other) for (_, q, y), other in zip(rows(), others, strict=True)]
    assert terms.classification.tolist() == pytest.approx(losses)
    assert terms.divergence.tolist() == pytest.approx([kl(p, q) * (1 - p[y]) for p, q, y in rows()], abs=1e-6)


def test_mart_stays_finite_where_probabilities_are_not() -> None:
    """Logits 1,000 apart, with float32 probabilities of 0 and 1, have a finite loss with a gradient."""
    logits = torch.tensor([[1000.0, 0.0, -1000.0]]).requires_grad_()
    terms = mart(CLEAN[:1].float(), logits, torch.tensor([2]))
    (terms.classification + terms.divergence).sum().backward()
    assert terms.classification.isfinite().all()
    assert logits.grad.isfinite().all()
