"""FAAL's class weights of a batch, counted by hand."""

import numpy as np
import pytest
import torch

from faal_core.dro import worst_case_weights
from faal_core.specs import FaalMethod
from faal_core.training.methods.faal import probability_margins, worst_case_class_weights

LOGITS = torch.log(torch.tensor([[0.7, 0.2, 0.1], [0.1, 0.6, 0.3], [0.5, 0.3, 0.2], [0.2, 0.3, 0.5]]))
LABELS = torch.tensor([0, 0, 1, 1])


def test_margin_is_best_other_minus_own() -> None:
    """The probability margin is the largest other probability minus the label's."""
    np.testing.assert_allclose(probability_margins(LOGITS, LABELS), [-0.5, 0.5, 0.2, 0.2], atol=1e-6)


def test_class_risk_is_the_mean_margin() -> None:
    """Class weights are C·p for the mean margins of the classes in the batch; an absent class gets 0."""
    weights = worst_case_class_weights(LOGITS, LABELS, FaalMethod(dro_radius=0.5)).numpy()
    expected = 2 * worst_case_weights(np.array([0.0, 0.2]), 0.5)
    np.testing.assert_allclose(weights, [*expected, 0], atol=1e-5)
    assert weights.sum() == pytest.approx(2, abs=1e-5)


def test_batch_count_weighs_by_images() -> None:
    """With the objective of the published code, the coefficients are the sums of the margins."""
    labels = torch.tensor([0, 1, 1, 1])
    weights = worst_case_class_weights(LOGITS, labels, FaalMethod(dro_radius=0.5, objective="batch-count")).numpy()
    margins = probability_margins(LOGITS, labels).numpy().astype(float)
    expected = 2 * worst_case_weights(np.array([margins[0], margins[1:].sum()]), 0.5)
    np.testing.assert_allclose(weights, [*expected, 0], atol=1e-5)


def test_radius_zero_is_neutral() -> None:
    """With a DRO radius of 0, every class has weight 1."""
    assert worst_case_class_weights(LOGITS, LABELS, FaalMethod(dro_radius=0)).tolist() == [1, 1, 1]


def test_no_gradient_flows_through_the_weights() -> None:
    """The class weights carry no gradient."""
    logits = LOGITS.clone().requires_grad_()
    assert not worst_case_class_weights(logits, LABELS, FaalMethod()).requires_grad
