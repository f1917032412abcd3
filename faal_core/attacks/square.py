"""Square attack: random search with square windows of changed pixels; needs logits only, no gradient."""

import math
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from faal_core.attacks.ball import Ball, expand, normalised, norms
from faal_core.attacks.losses import margin
from faal_core.attacks.randomness import ImageRandom
from faal_core.classifier import Classifier, Images, Labels
from faal_core.specs import SquareSpec
from faal_core.threat_model import Norm, ThreatModel

_HALVED_AFTER = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)  # queries, however many there are
_DRAWN_AHEAD = 250  # queries
_TILES = 5  # along the shorter side, in the first perturbation for L2
_TINY = 1e-12


def window_side(query: int, shape: torch.Size, initial_share: float, norm: Norm) -> int:
    """Side of the window of that query (from 0), in pixels: its share of the image is halved as the search goes on.

    Source: Andriushchenko et al. 2020, section 3.2, with the schedule of 10,000 queries whatever their number, as
    AutoAttack has it. L2 windows have an odd side of at least 3.
    """
    *_, height, width = shape
    share = initial_share / 2 ** sum(query > after for after in _HALVED_AFTER)
    side = max(round(math.sqrt(share * height * width)), 1)
    if norm is Norm.L2:
        side = max(side, 3) | 1
    return min(side, height, width)


class Windows:
    """One square window in each image, all channels.

    Args:
        draws: two numbers in [0, 1) an image, `n 2`: its place among all that fit, from the top and from the left.
        side: of the window, in pixels; at most the images' height and width.
        shape: of the images, `n c h w`.
    """

    def __init__(self, draws: Tensor, side: int, shape: torch.Size) -> None:
        *_, height, width = shape
        free = torch.tensor([height - side + 1, width - side + 1], device=draws.device)
        self._side, self._places = side, (draws * free).long()

    def of(self, images: Images) -> Tensor:
        """Their pixels in `images`, `n c side side`: a copy."""
        return self._everywhere(images)[self._index]

    def put(self, images: Images, pixels: Tensor) -> None:
        """Overwrites them in `images` with `pixels`, `n c side side`."""
        self._everywhere(images)[self._index] = pixels

    def keep(self, kept: Tensor) -> None:
        """Drops the windows of all other images; `kept` has row numbers."""
        self._places = self._places[kept]

    @property
    def _index(self) -> tuple[Tensor, slice, Tensor, Tensor]:
        top, left = self._places.unbind(1)
        return torch.arange(len(top), device=top.device), slice(None), top, left

    def _everywhere(self, images: Images) -> Tensor:
        """A view of every window in every place, `n c top left side side`."""
        return images.unfold(2, self._side, 1).unfold(3, self._side, 1)


def signs(draws: Tensor) -> Tensor:
    """−1 or 1, by numbers in [0, 1)."""
    return torch.where(draws < 0.5, -1.0, 1.0)


def expand_channels(per_channel: Tensor) -> Tensor:
    """One number an image and channel, shaped to multiply images."""
    return per_channel.unsqueeze(2).unsqueeze(3)


@dataclass(frozen=True, slots=True)
class LinfSearch:
    """Square attack for L∞: every pixel at the edge of the ball. Source: Andriushchenko et al. 2020, algorithm 2."""

    initial_share: float

    def draws(self, channels: int) -> int:
        """Random numbers a query."""
        return 2 + channels

    def start(self, ball: Ball, random: ImageRandom) -> Images:
        """Vertical stripes one pixel wide, each of a random sign."""
        count, channels, _, width = ball.x.shape
        stripes = signs(random.uniform(count, channels, width)).unsqueeze(2)
        return ball.project(ball.x + ball.epsilon * stripes)

    def propose(self, best: Images, ball: Ball, query: int, draws: Tensor) -> tuple[Tensor, Tensor]:
        """The images with each channel of one window at one edge of the ball, where that changes anything; their numbers."""
        side = window_side(query, best.shape, self.initial_share, Norm.LINF)
        windows = Windows(draws[:, :2], side, best.shape)
        edge = ball.epsilon * signs(expand_channels(draws[:, 2:]))
        new = (windows.of(ball.x) + edge).clamp_(0, 1)
        changed = (new != windows.of(best)).any(3).any(2).any(1).nonzero().squeeze(1)
        proposed = best[changed]
        windows.keep(changed)
        windows.put(proposed, new[changed])
        return changed, proposed


@dataclass(frozen=True, slots=True)
class L2Search:
    """Square attack for L2: all of the norm is used, window by window. Source: Andriushchenko et al. 2020, algorithm 3."""

    initial_share: float

    def draws(self, channels: int) -> int:
        """Random numbers a query."""
        return 5 + channels

    def start(self, ball: Ball, random: ImageRandom) -> Images:
        """A grid of windows with the attack's pattern, each channel of each of a random sign."""
        count, channels, height, width = ball.x.shape
        side = max(min(height, width) // _TILES, 1)
        rows, columns = height // side, width // side
        draws = random.uniform(count, channels + 1, rows, columns)
        tile = bump(side, ball.x.device)
        turned = torch.where(draws[:, :1, :, None, :, None] < 0.5, tile.T[:, None], tile[:, None])
        pattern = (turned * signs(draws[:, 1:, :, None, :, None])).reshape(count, channels, rows * side, columns * side)
        delta = torch.zeros_like(ball.x)
        top, left = (height - rows * side) // 2, (width - columns * side) // 2
        delta[:, :, top : top + rows * side, left : left + columns * side] = pattern
        return (ball.x + ball.epsilon * normalised(delta, Norm.L2)).clamp_(0, 1)

    def propose(self, best: Images, ball: Ball, query: int, draws: Tensor) -> tuple[Tensor, Tensor]:
        """The images with the perturbation of a second window taken out and spent in a first; their numbers, that is all."""
        channels = best.shape[1]
        side = window_side(query, best.shape, self.initial_share, Norm.L2)
        first = Windows(draws[:, :2], side, best.shape)
        second = Windows(draws[:, 2:4], side, best.shape)
        delta = best - ball.x
        unused = (ball.epsilon**2 - norms(delta, Norm.L2).square()).clamp_min(0)
        old = first.of(delta)
        first.put(delta, torch.zeros_like(old))
        freed = old.square().sum((2, 3), keepdim=True) + second.of(delta).square().sum((2, 3), keepdim=True)
        second.put(delta, torch.zeros_like(old))
        pattern = bump(side, best.device)
        pattern = torch.where(expand(draws[:, 4]) < 0.5, pattern.T, pattern) * signs(expand_channels(draws[:, 5:]))
        new = pattern + old / channel_norms(old)
        first.put(delta, new / channel_norms(new) * (expand(unused) / channels + freed).sqrt())
        proposed = (ball.x + ball.epsilon * normalised(delta, Norm.L2)).clamp_(0, 1)
        return torch.arange(len(best), device=best.device), proposed


def channel_norms(windows: Tensor) -> Tensor:
    """The L2 norm of each channel of each window, never zero."""
    return windows.square().sum((2, 3), keepdim=True).sqrt().clamp_min(_TINY)


@lru_cache
def bump(side: int, device: torch.device) -> Tensor:
    """The window's pattern of L2 norm 1: two halves of opposite sign, each falling off from its centre.

    Source: Andriushchenko et al. 2020, eq. 2; a pixel at Chebyshev distance ρ from a half's centre has Σ_{k ≥ ρ} (k + 1)^−2.
    """
    upper = side // 2
    halves = [_falling(upper, side, device), -_falling(side - upper, side, device)]
    pattern = torch.cat([half / half.norm().clamp_min(_TINY) for half in halves])
    return pattern / pattern.norm()


def _falling(height: int, width: int, device: torch.device) -> Tensor:
    rows = (torch.arange(height, device=device) - height // 2).abs()
    columns = (torch.arange(width, device=device) - width // 2).abs()
    distance = torch.maximum(rows.unsqueeze(1), columns.unsqueeze(0))
    terms = (torch.arange(max(height, width) // 2 + 1, device=device) + 1.0).pow(-2)
    return terms.flip(0).cumsum(0).flip(0)[distance]


@torch.no_grad()
def square(
    classifier: Classifier, x: Images, y: Labels, threat: ThreatModel, spec: SquareSpec, random: ImageRandom
) -> Images:
    """One run: each image where it was first misclassified, or at its highest margin.

    Cost: `queries` + 1 forward passes of the images still in the search at most: what would change nothing is not asked.
    Source: Andriushchenko et al. 2020, algorithm 1, with the margin loss.
    Differs: each image has its own windows and signs; windows reach the last row and column; images need not be square.
    """
    ball = Ball(x, threat)
    search = (LinfSearch if threat.norm is Norm.LINF else L2Search)(spec.initial_share)
    best = search.start(ball, random)
    found, rows = best.clone(), torch.arange(len(x), device=x.device)
    asked, proposed = rows, best
    value = torch.full((len(x),), -torch.inf, device=x.device)
    for query in range(spec.queries + 1):
        if query % _DRAWN_AHEAD == 0:
            draws = random.uniform(len(rows), _DRAWN_AHEAD, search.draws(x.shape[1]))
        if len(asked):
            logits = classifier(proposed)
            risen, wrong = margin(logits, y[asked]), logits.argmax(1) != y[asked]
            better = ((risen > value[asked]) | wrong).nonzero().squeeze(1)
            best[asked[better]], value[asked[better]] = proposed[better], risen[better]
            unbroken = torch.ones_like(rows).index_fill_(0, asked[wrong], 0).nonzero().squeeze(1)
            if len(unbroken) < len(rows):
                found[rows] = best
                rows, y, best = rows[unbroken], y[unbroken], best[unbroken]
                value, draws, ball, random = value[unbroken], draws[unbroken], ball.of(unbroken), random.of(unbroken)
        if not len(rows) or query == spec.queries:
            break
        asked, proposed = search.propose(best, ball, query, draws[:, query % _DRAWN_AHEAD])
    found[rows] = best
    return found


@dataclass(frozen=True, slots=True)
class Square:
    """The Square attack; each run is one start."""

    spec: SquareSpec

    @property
    def runs(self) -> int:
        """One each restart."""
        return self.spec.restarts

    def run(
        self, number: int, classifier: Classifier, x: Images, y: Labels, threat: ThreatModel, random: ImageRandom
    ) -> Images:
        """The images after one search; the runs differ in their random numbers alone."""
        return square(classifier, x, y, threat, self.spec, random)
