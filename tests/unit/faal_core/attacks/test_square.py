"""Test Square's windows, patterns and schedule; test_oracle.py tests its strength."""

import pytest
import torch
from torch import Tensor

from faal_core.attacks.ball import Ball, norms
from faal_core.attacks.losses import margin_loss
from faal_core.attacks.randomness import ImageRandom
from faal_core.attacks.square import L2Search, LinfSearch, square
from faal_core.attacks.square_windows import (
    Windows,
    build_pattern,
    count_queries,
    expand_channels,
    to_signs,
    window_side,
)
from faal_core.specs import SquareSpec
from faal_core.threat_model import Norm, ThreatModel
from tests.linear_classifier import build_linear_classifier


@pytest.mark.parametrize(
    ("query", "side"), [(0, 29), (10, 29), (11, 20), (51, 14), (201, 10), (501, 7), (1001, 5), (2001, 4), (4001, 3)]
)
def test_window_sides_of_the_published_schedule(query: int, side: int) -> None:
    """The sides on 32 × 32 images are round(√(p · 1024)), with p = 0.8 halved at the published queries."""
    assert window_side(query, torch.Size((1, 3, 32, 32)), 0.8, Norm.LINF) == side


@pytest.mark.parametrize("query", [0, 10, 11, 50, 51, 4001, 8000, 9000])
def test_the_side_stays_for_the_counted_queries(query: int) -> None:
    """The windows of a large image have one side for as many queries as are counted, and another side after them."""
    sides = [window_side(number, torch.Size((1, 1, 512, 512)), 0.8, Norm.LINF) for number in range(12_000)]
    following = sides[query:]
    assert sum(side == sides[query] for side in following) == min(count_queries(query), len(following))


@pytest.mark.parametrize(("height", "width"), [(1, 1), (2, 5), (7, 3)])
@pytest.mark.parametrize("norm", list(Norm))
def test_windows_fit_small_images(height: int, width: int, norm: Norm) -> None:
    """No window is larger than its image."""
    assert 1 <= window_side(0, torch.Size((1, 1, height, width)), 1.0, norm) <= min(height, width)


def test_windows_reach_every_pixel_and_no_further() -> None:
    """The smallest draw puts the window into the first corner, the largest into the last."""
    draws = torch.tensor([[0.0, 0.0], [1 - 2**-24, 1 - 2**-24]])
    images = torch.zeros(2, 1, 4, 5)
    windows = Windows.draw(draws, 2, images.shape)
    windows.write(images, torch.ones(2, 1, 2, 2))
    assert images.nonzero().tolist() == [
        [0, 0, 0, 0], [0, 0, 0, 1], [0, 0, 1, 0], [0, 0, 1, 1],
        [1, 0, 2, 3], [1, 0, 2, 4], [1, 0, 3, 3], [1, 0, 3, 4],
    ]  # fmt: skip
    assert windows.read(images).eq(1).all()


@pytest.mark.parametrize("side", [1, 3, 4, 5, 9])
def test_pattern_has_norm_one_and_two_opposite_halves(side: int) -> None:
    """The pattern's L2 norm is 1; its upper half is not negative, its lower not positive."""
    pattern = build_pattern(side, torch.device("cpu"))
    assert pattern.norm().item() == pytest.approx(1)
    assert (pattern[: side // 2] >= 0).all()
    assert (pattern[side // 2 :] <= 0).all()


def test_pattern_by_hand() -> None:
    """Each half of the pattern of side 3 sums the inverse squares by the distance from the half's centre."""
    near, far = 1 + 1 / 4, 1 / 4  # Σ over k = 0, 1 and over k = 1 of (k + 1)^−2
    upper = torch.tensor([[far, near, far]])
    lower = torch.tensor([[far, far, far], [far, near, far]])
    expected = torch.cat([upper / upper.norm(), -lower / lower.norm()])
    assert torch.allclose(build_pattern(3, torch.device("cpu")), expected / expected.norm())


@pytest.mark.parametrize("shape", [(4, 1, 8, 8), (4, 3, 6, 11), (4, 4, 1, 1), (4, 2, 2, 3)])
def test_linf_images_are_at_the_edge_of_the_ball(shape: tuple[int, ...]) -> None:
    """Each pixel is at x − ε or x + ε, clipped to the box, at the start and after every proposal; each proposal changes some."""
    x = torch.rand(shape, generator=torch.Generator().manual_seed(0))
    ball, search, random = Ball(x, ThreatModel(epsilon=0.1)), LinfSearch(0.8), ImageRandom(range(4), x.device)
    images = search.start(ball, random)
    for query in range(20):
        before = images.clone()
        proposal = search.prepare(ball, query, random.uniform(4, 1, search.count_draws(shape[1]))).propose(
            images, ball, 0
        )
        changed = (proposal.images != before).flatten(1).any(1)
        assert changed.nonzero().squeeze(1).tolist() == proposal.changed.tolist()
        half = torch.tensor([False, True, False, True])
        expected = torch.where(half.view(4, 1, 1, 1), proposal.images, before)
        images = proposal.keep(half)
        assert torch.equal(images, expected)
        edge = torch.minimum((images - ball.low).abs(), (images - ball.high).abs())
        assert edge.max() < 1e-6


@pytest.mark.parametrize("shape", [(4, 1, 8, 8), (4, 3, 6, 11), (4, 2, 2, 3)])
def test_l2_images_use_the_whole_radius(shape: tuple[int, ...]) -> None:
    """The perturbation of an image far from the box's edge has norm ε at the start and after every proposal."""
    x = torch.full(shape, 0.5)
    ball = Ball(x, ThreatModel(norm=Norm.L2, epsilon=0.2))
    search, random = L2Search(0.8), ImageRandom(range(4), x.device)
    images = search.start(ball, random)
    for query in range(20):
        assert torch.allclose(norms(images - x, Norm.L2), torch.tensor(0.2), atol=1e-5)
        images = (
            search.prepare(ball, query, random.uniform(4, 1, search.count_draws(shape[1])))
            .propose(images, ball, 0)
            .images
        )


def test_l2_takes_the_perturbation_out_of_the_second_window() -> None:
    """A proposal removes the perturbation from the second window, and the first window keeps one."""
    x = torch.full((4, 2, 9, 9), 0.5)
    ball = Ball(x, ThreatModel(norm=Norm.L2, epsilon=0.2))
    search, random = L2Search(0.05), ImageRandom(range(4), x.device)
    best = search.start(ball, random)
    draws = random.uniform(4, search.count_draws(2))
    draws[:, :4] = torch.tensor([0.0, 0.0, 0.5, 0.5])  # corners: the first window's, then the second's, apart from it
    perturbation = search.prepare(ball, 0, draws.unsqueeze(1)).propose(best, ball, 0).images - x
    first, second = Windows.draw(draws[:, :2], 3, x.shape), Windows.draw(draws[:, 2:4], 3, x.shape)
    assert second.read(best - x).abs().amax() > 0.01
    assert second.read(perturbation).abs().amax() == 0
    assert first.read(perturbation).abs().amax() > 0.01


def test_unchanged_proposals_cost_no_query() -> None:
    """An image of one pixel has two edges: the network sees the better one once, and then only the other."""
    classifier = build_linear_classifier(2, (1, 1, 1))
    x = torch.tensor([0.3, 0.6, 0.7]).view(3, 1, 1, 1)
    y = classifier(x).argmax(1)
    queries: list[Tensor] = []
    classifier.register_forward_pre_hook(lambda _, inputs: queries.append(inputs[0].clone()))
    threat = ThreatModel(epsilon=1e-3)  # too small to break one
    best = square(classifier, x, y, threat, SquareSpec(queries=200), ImageRandom(range(3), x.device))
    images = torch.cat(queries)
    assert [int((images == edge).sum()) for edge in best] == [1, 1, 1]
    assert 100 < len(images) < 500  # of 3 · 201 about half


def test_square_ends_as_a_search_that_queries_every_proposal() -> None:
    """Skipping proposals that change no pixel gives the same images as querying all of them."""
    classifier, x = (
        build_linear_classifier(3, (1, 6, 6)),
        torch.rand(4, 1, 6, 6, generator=torch.Generator().manual_seed(0)),
    )
    # Whole weights and pixels of few binary digits: no sum is rounded, whatever its order and the size of the batch.
    x = (256 * x).round() / 256
    for parameter in classifier.parameters():
        parameter.data = (8 * parameter.data).round()
    y, threat, spec = classifier(x).argmax(1), ThreatModel(epsilon=2**-10), SquareSpec(queries=60)
    ball, search = Ball(x, threat), LinfSearch(spec.initial_share)
    random = ImageRandom(range(4), x.device)
    best = search.start(ball, random)
    value = margin_loss(classifier(best), y)
    draws = random.uniform(4, 250, search.count_draws(1))
    for query in range(60):
        windows = Windows.draw(draws[:, query, :2], window_side(query, x.shape, spec.initial_share, Norm.LINF), x.shape)
        proposals, edge = best.clone(), threat.epsilon * to_signs(expand_channels(draws[:, query, 2:]))
        windows.write(proposals, (windows.read(x) + edge).clamp(0, 1))
        margins = margin_loss(classifier(proposals), y)
        better = (margins > value).nonzero().squeeze(1)
        best[better], value[better] = proposals[better], margins[better]
    result = square(classifier, x, y, threat, spec, ImageRandom(range(4), x.device))
    assert torch.equal(result, best)
