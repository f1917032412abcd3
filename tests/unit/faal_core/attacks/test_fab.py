"""Test FAB's projections against a general solver; test_oracle.py tests its strength."""

import numpy as np
import pytest
import torch
from scipy.optimize import linprog

from faal_core.attacks import build
from faal_core.attacks.ball import inner_product, norms
from faal_core.attacks.fab import step_to_hyperplane
from faal_core.attacks.randomness import ImageRandom
from faal_core.specs import FabSpec
from faal_core.threat_model import Norm, ThreatModel
from tests.linear_classifier import build_linear_classifier, compute_smallest_radius

SHAPE = (12, 2, 3, 2)


def problem(seed: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return images with pixels at the edges of the box, gradients with zeros, and values of both signs."""
    generator = torch.Generator().manual_seed(seed)
    x = (torch.rand(SHAPE, generator=generator) * 1.4 - 0.2).clamp(0, 1)
    gradient = torch.randn(SHAPE, generator=generator)
    gradient[:, 0, 0, 0] = 0
    return x, gradient, torch.randn(SHAPE[0], generator=generator)


@pytest.mark.parametrize("seed", range(5))
def test_linf_step_is_as_short_as_a_linear_program_finds(seed: int) -> None:
    """In L∞ the step reaches the hyperplane inside the box, at the length of a general solver's optimum."""
    x, gradient, value = problem(seed)
    step = step_to_hyperplane(x, gradient, value, Norm.LINF)
    assert ((x + step >= -1e-6) & (x + step <= 1 + 1e-6)).all()
    for i in range(SHAPE[0]):
        g, pixels = gradient[i].flatten().double().numpy(), x[i].flatten().double().numpy()
        size = len(g)
        one = np.ones((size, 1))
        solution = linprog(
            np.r_[np.zeros(size), 1],
            A_ub=np.block([[np.eye(size), -one], [-np.eye(size), -one]]),
            b_ub=np.zeros(2 * size),
            A_eq=np.r_[g, 0][None],
            b_eq=[value[i].item()],
            bounds=[*zip(-pixels, 1 - pixels, strict=True), (0, None)],
        )
        if solution.success:
            assert inner_product(gradient[i : i + 1], step[i : i + 1]).item() == pytest.approx(
                value[i].item(), abs=1e-5
            )
            assert norms(step[i : i + 1], Norm.LINF).item() == pytest.approx(solution.fun, abs=1e-5)


@pytest.mark.parametrize("seed", range(5))
def test_l2_step_satisfies_the_optimality_conditions(seed: int) -> None:
    """The L2 step reaches the hyperplane; it is λ × gradient on free pixels, and shorter on pixels at the edge of the box."""
    x, gradient, value = problem(seed)
    value = 0.5 * value
    step = step_to_hyperplane(x, gradient, value, Norm.L2)
    assert torch.allclose(inner_product(gradient, step), value, atol=1e-5)
    at_edge = ((x + step).abs() < 1e-6) | ((x + step - 1).abs() < 1e-6)
    for i in range(SHAPE[0]):
        free = ~at_edge[i] & (gradient[i] != 0)
        ratios = step[i][free] / gradient[i][free]
        assert torch.allclose(ratios, ratios.mean().expand_as(ratios), atol=1e-4)
        assert (step[i][at_edge[i]].abs() <= (ratios.mean() * gradient[i][at_edge[i]]).abs() + 1e-5).all()


@pytest.mark.parametrize("norm", list(Norm))
def test_out_of_reach_the_step_goes_as_far_as_the_box_allows(norm: Norm) -> None:
    """If the box has no point on the hyperplane, every pixel with a gradient goes to the edge towards it."""
    x, gradient, value = problem(0)
    step = step_to_hyperplane(x, gradient, torch.full_like(value, 1e3), norm)
    has_gradient = gradient != 0
    assert torch.allclose((x + step)[has_gradient], (gradient > 0).float()[has_gradient], atol=1e-6)
    assert (step[~has_gradient] == 0).all()


@pytest.mark.parametrize("norm", list(Norm))
def test_without_a_gradient_nothing_moves(norm: Norm) -> None:
    """A gradient of zero, or a distance of zero, gives a step of zero."""
    x, gradient, value = problem(0)
    assert (step_to_hyperplane(x, 0 * gradient, value, norm) == 0).all()
    assert (step_to_hyperplane(x, gradient, 0 * value, norm) == 0).all()


@pytest.mark.parametrize("norm", list(Norm))
def test_a_batch_in_parts_steps_like_a_whole_one(norm: Norm, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each image gets its own value also if the batch is cut into parts for the cache."""
    x, gradient, value = (part.double() for part in problem(1))
    whole = step_to_hyperplane(x, gradient, value, norm)
    monkeypatch.setattr("faal_core.attacks.fab._CACHED", 2 * x[0].numel())
    assert len(x) > 2
    assert torch.allclose(step_to_hyperplane(x, gradient, value, norm), whole, rtol=0, atol=1e-9)


@pytest.mark.parametrize("norm", list(Norm))
@pytest.mark.parametrize("scale", [1e-9, 1e-6, 1e6])
def test_the_scale_of_the_logits_does_not_matter(norm: Norm, scale: float) -> None:
    """Images are broken at 1.05 × their smallest radius also if the logits are a million times smaller or larger."""
    classifier = build_linear_classifier(3, (1, 6, 5))
    x = 0.5 + 0.02 * torch.randn(12, 1, 6, 5, generator=torch.Generator().manual_seed(4))
    y = classifier(x).argmax(1)
    radius = compute_smallest_radius(classifier, x, y, norm)
    for parameter in classifier.backbone.parameters():
        parameter.data *= scale
    for i in range(len(x)):
        threat = ThreatModel(norm=norm, epsilon=1.05 * radius[i].item())
        results = [
            build(FabSpec(targets=2, iterations=30), 3).run(
                run, classifier, x[i : i + 1], y[i : i + 1], threat, ImageRandom([0], torch.device("cpu"))
            )
            for run in range(2)
        ]
        assert any(classifier(x_adv).argmax(1).item() != y[i].item() for x_adv in results)
