"""Run the Square attack: a random search with square windows of changed pixels, which needs logits and no gradient."""

import math
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from faal_core.attacks.ball import Ball, expand, normalise, norms
from faal_core.attacks.losses import margin_loss
from faal_core.attacks.randomness import ImageRandom
from faal_core.attacks.search import Search, overwrite, select_places
from faal_core.classifier import Classifier, Images, Labels
from faal_core.specs import SquareSpec
from faal_core.threat_model import Norm, ThreatModel

_HALVING_QUERIES = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)  # whatever the number of queries
_DRAW_BLOCK = 250  # queries whose random numbers are drawn at once, which is faster
_TILES = 5  # windows along the shorter side in the first perturbation for L2
_TINY = 1e-12  # keeps divisors positive


def window_side(query: int, shape: torch.Size, initial_share: float, norm: Norm) -> int:
    """Return the side of the window of query `query` (from 0), in pixels; its area is halved as the search continues.

    L2 windows have an odd side of at least 3.

    Source: Andriushchenko et al. 2020, section 3.2, with the schedule of 10,000 queries whatever their number, as
        AutoAttack has it.
    """
    *_, height, width = shape
    fraction = initial_share / 2 ** sum(query > halving for halving in _HALVING_QUERIES)
    side = max(round(math.sqrt(fraction * height * width)), 1)
    if norm is Norm.L2:
        side = max(side, 3) | 1
    return min(side, height, width)


class Windows:
    """Selects one square window in each image, across all channels.

    Args:
        draws: two numbers in [0, 1) per image, `n 2`: the window's place among all that fit, from the top and from the
            left.
        side: side of the window in pixels; at most the height and width of the images.
        shape: shape of the images, `n c h w`.
    """

    def __init__(self, draws: Tensor, side: int, shape: torch.Size) -> None:
        *_, height, width = shape
        places = torch.tensor([height - side + 1, width - side + 1], device=draws.device)
        self._side, self._places = side, (draws * places).long()

    def read(self, images: Images) -> Tensor:
        """Return a copy of the windows' pixels in `images`, `n c side side`."""
        return self._view_all(images)[self._index]

    def write(self, images: Images, pixels: Tensor) -> None:
        """Overwrite the windows in `images` with `pixels`, `n c side side`."""
        self._view_all(images)[self._index] = pixels

    def select(self, indices: Tensor) -> None:
        """Keep only the windows of the images at `indices`."""
        self._places = self._places[indices]

    @property
    def _index(self) -> tuple[Tensor, slice, Tensor, Tensor]:
        top, left = self._places.unbind(1)
        return torch.arange(len(top), device=top.device), slice(None), top, left

    def _view_all(self, images: Images) -> Tensor:
        """Return a view of every window in every place, `n c top left side side`."""
        return images.unfold(2, self._side, 1).unfold(3, self._side, 1)


def to_signs(draws: Tensor) -> Tensor:
    """Return −1 or 1 for each number in [0, 1)."""
    return torch.where(draws < 0.5, -1.0, 1.0)


def expand_channels(per_channel: Tensor) -> Tensor:
    """Return one number per image and channel in shape `n c 1 1`, which multiplies images."""
    return per_channel.unsqueeze(2).unsqueeze(3)


@dataclass(frozen=True, slots=True)
class LinfSearch:
    """Searches for L∞: every pixel is at the edge of the ball.

    Source: Andriushchenko et al. 2020, algorithm 2.
    """

    initial_share: float

    def count_draws(self, channels: int) -> int:
        """Return the number of random numbers per query and image."""
        return 2 + channels

    def start(self, ball: Ball, random: ImageRandom) -> Images:
        """Return the images with vertical stripes one pixel wide, each of a random sign."""
        count, channels, _, width = ball.x.shape
        stripes = to_signs(random.uniform(count, channels, width)).unsqueeze(2)
        return ball.project(ball.x + ball.epsilon * stripes)

    def propose(self, best: Images, ball: Ball, query: int, draws: Tensor) -> tuple[Tensor, Tensor]:
        """Return the row numbers of the images that the next query changes, and these images.

        Each channel of one window moves to one edge of the ball.
        """
        side = window_side(query, best.shape, self.initial_share, Norm.LINF)
        windows = Windows(draws[:, :2], side, best.shape)
        edge = ball.epsilon * to_signs(expand_channels(draws[:, 2:]))
        new = (windows.read(ball.x) + edge).clamp_(0, 1)
        changed = select_places((new != windows.read(best)).any(3).any(2).any(1))
        proposed = best[changed]
        windows.select(changed)
        windows.write(proposed, new[changed])
        return changed, proposed


@dataclass(frozen=True, slots=True)
class L2Search:
    """Searches for L2: the perturbation always uses the whole norm, and moves it between windows.

    Source: Andriushchenko et al. 2020, algorithm 3.
    """

    initial_share: float

    def count_draws(self, channels: int) -> int:
        """Return the number of random numbers per query and image."""
        return 5 + channels

    def start(self, ball: Ball, random: ImageRandom) -> Images:
        """Return the images with a grid of windows in the attack's pattern, each channel of each window of a random sign."""
        count, channels, height, width = ball.x.shape
        side = max(min(height, width) // _TILES, 1)
        rows, columns = height // side, width // side
        draws = random.uniform(count, channels + 1, rows, columns)
        tile = build_pattern(side, ball.x.device)
        tiles = torch.where(draws[:, :1, :, None, :, None] < 0.5, tile.T[:, None], tile[:, None])
        pattern = (tiles * to_signs(draws[:, 1:, :, None, :, None])).reshape(
            count, channels, rows * side, columns * side
        )
        delta = torch.zeros_like(ball.x)
        top, left = (height - rows * side) // 2, (width - columns * side) // 2
        delta[:, :, top : top + rows * side, left : left + columns * side] = pattern
        return (ball.x + ball.epsilon * normalise(delta, Norm.L2)).clamp_(0, 1)

    def propose(self, best: Images, ball: Ball, query: int, draws: Tensor) -> tuple[Tensor, Tensor]:
        """Return all row numbers, and the images whose perturbation moved from a second window to a first one."""
        channels = best.shape[1]
        side = window_side(query, best.shape, self.initial_share, Norm.L2)
        first = Windows(draws[:, :2], side, best.shape)
        second = Windows(draws[:, 2:4], side, best.shape)
        delta = best - ball.x
        unused_square = (ball.epsilon**2 - norms(delta, Norm.L2).square()).clamp_min(0)
        old = first.read(delta)
        first.write(delta, torch.zeros_like(old))
        freed_square = old.square().sum((2, 3), keepdim=True) + second.read(delta).square().sum((2, 3), keepdim=True)
        second.write(delta, torch.zeros_like(old))
        pattern = build_pattern(side, best.device)
        pattern = torch.where(expand(draws[:, 4]) < 0.5, pattern.T, pattern) * to_signs(expand_channels(draws[:, 5:]))
        new = pattern + old / channel_norms(old)
        first.write(delta, new / channel_norms(new) * (expand(unused_square) / channels + freed_square).sqrt())
        proposed = (ball.x + ball.epsilon * normalise(delta, Norm.L2)).clamp_(0, 1)
        return torch.arange(len(best), device=best.device), proposed


def channel_norms(windows: Tensor) -> Tensor:
    """Return the L2 norm of each channel of each window; at least `_TINY`."""
    return windows.square().sum((2, 3), keepdim=True).sqrt().clamp_min(_TINY)


@lru_cache
def build_pattern(side: int, device: torch.device) -> Tensor:
    """Return the window's pattern of L2 norm 1: two halves of opposite sign, each falling off from its centre.

    A pixel at Chebyshev distance ρ from a half's centre has the value Σ_{k ≥ ρ} (k + 1)^−2 before scaling.

    Source: Andriushchenko et al. 2020, eq. 2.
    """
    upper = side // 2
    halves = [_build_half(upper, side, device), -_build_half(side - upper, side, device)]
    pattern = torch.cat([half / half.norm().clamp_min(_TINY) for half in halves])
    return pattern / pattern.norm()


def _build_half(height: int, width: int, device: torch.device) -> Tensor:
    """Return one half of the pattern before it is scaled: highest in its centre."""
    rows = (torch.arange(height, device=device) - height // 2).abs()
    columns = (torch.arange(width, device=device) - width // 2).abs()
    distance = torch.maximum(rows.unsqueeze(1), columns.unsqueeze(0))
    terms = (torch.arange(max(height, width) // 2 + 1, device=device) + 1.0).pow(-2)
    return terms.flip(0).cumsum(0).flip(0)[distance]


@torch.no_grad()
def square(
    classifier: Classifier, x: Images, y: Labels, threat: ThreatModel, spec: SquareSpec, random: ImageRandom
) -> Images:
    """Return each image where it was first misclassified, or at its highest margin, after one run of the Square attack.

    Cost: at most `queries` + 1 forward passes of the images still in the search; queries that change no pixel are
        skipped.
    Source: Andriushchenko et al. 2020, algorithm 1, with the margin loss.
    Differs: each image has its own windows and signs; windows reach the last row and column; images need not be square.
    """
    ball = Ball(x, threat)
    windows = (LinfSearch if threat.norm is Norm.LINF else L2Search)(spec.initial_share)
    best = windows.start(ball, random)
    search = Search(best)
    candidates, proposed = search.rows, best
    value = torch.full((len(x),), -torch.inf, device=x.device)
    for query in range(spec.queries + 1):
        if query % _DRAW_BLOCK == 0:
            draws = random.uniform(len(y), _DRAW_BLOCK, windows.count_draws(x.shape[1]))
        if len(candidates):
            logits = classifier(proposed)
            new_value, wrong = margin_loss(logits, y[candidates]), logits.argmax(1) != y[candidates]
            better = (new_value > value[candidates]) | wrong
            overwrite(candidates, better, (best, proposed), (value, new_value))
            broken = torch.zeros_like(y, dtype=torch.bool).index_copy_(0, candidates, wrong)
            places = search.leave(best, broken)
            if places is not None:
                y, best, value, draws = y[places], best[places], value[places], draws[places]
                ball, random = ball.subset(places), random.subset(places)
        if not len(y) or query == spec.queries:
            break
        candidates, proposed = windows.propose(best, ball, query, draws[:, query % _DRAW_BLOCK])
    return search.finish(best)


@dataclass(frozen=True, slots=True)
class Square:
    """Runs the Square attack; each run is one start."""

    spec: SquareSpec

    @property
    def runs(self) -> int:
        """Return the number of runs: one per restart."""
        return self.spec.restarts

    def run(
        self, number: int, classifier: Classifier, x: Images, y: Labels, threat: ThreatModel, random: ImageRandom
    ) -> Images:
        """Return the images after one search; runs differ only in their random numbers."""
        return square(classifier, x, y, threat, self.spec, random)
