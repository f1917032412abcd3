"""Run the Square attack: a random search with square windows of changed pixels, which needs logits and no gradient."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from faal_core.attacks.ball import Ball, expand, normalise, norms
from faal_core.attacks.losses import margin_loss
from faal_core.attacks.randomness import ImageRandom
from faal_core.attacks.search import Search, select_places
from faal_core.attacks.square_windows import (
    Windows,
    build_pattern,
    channel_norms,
    count_queries,
    expand_channels,
    to_signs,
    window_side,
)
from faal_core.classifier import Classifier, Images, Labels, PerImage
from faal_core.specs import SquareSpec
from faal_core.threat_model import Norm, ThreatModel

_DRAW_BLOCK = 250  # queries whose random numbers are drawn at once, which is faster
_PREPARED = 2**18  # pixels of windows that are prepared at once: they stay in a core's cache
_TILES = 5  # windows along the shorter side in the first perturbation for L2


class Proposal(NamedTuple):
    """Holds the images of one query.

    Args:
        images: the changed images, `n c h w`, in the order of the batch.
        changed: the rows of the images in which a pixel changed.
        keep: takes which images stay changed, `n`, bool, and returns all images.
    """

    images: Images
    changed: Tensor
    keep: Callable[[Tensor], Images]


class Moves(Protocol):
    """Changes the images in several queries, one after the other."""

    def __len__(self) -> int:
        """Return the number of queries."""

    def subset(self, indices: Tensor) -> "Moves":
        """Return the moves of the images at `indices`."""

    def propose(self, best: Images, ball: Ball, number: int) -> Proposal:
        """Return the images of query `number` (from 0); `best` may change in place until the proposal's `keep` is called."""


@dataclass(frozen=True, slots=True)
class LinfMoves:
    """Moves each channel of one window to one edge of the ball.

    Args:
        windows: `q n`.
        pixels: the windows' new pixels, `q n c side side`.
    """

    windows: Windows
    pixels: Tensor

    def __len__(self) -> int:
        """Return the number of queries."""
        return len(self.pixels)

    def subset(self, indices: Tensor) -> "LinfMoves":
        """Return the moves of the images at `indices`."""
        return LinfMoves(self.windows.subset(indices), self.pixels[:, indices])

    def propose(self, best: Images, ball: Ball, number: int) -> Proposal:
        """Return `best` with the windows of query `number`, which change in place: a copy of all pixels takes longer."""
        view, index = self.windows.select_query(number).locate(best)
        old, new = view[index], self.pixels[number]
        view[index] = new

        def keep(better: Tensor) -> Images:
            view[index] = torch.where(better.view(-1, 1, 1, 1), new, old)
            return best

        return Proposal(best, select_places((new != old).flatten(1).any(1)), keep)


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

    def prepare(self, ball: Ball, query: int, draws: Tensor) -> LinfMoves:
        """Return the moves of `query` and of as many queries after it as have windows of the same side and fit into the cache.

        Args:
            draws: `n q …`, of `query` and those after it.
        """
        count, channels = ball.x.shape[:2]
        side = window_side(query, ball.x.shape, self.initial_share, Norm.LINF)
        queries = min(count_queries(query), max(_PREPARED // (count * channels * side**2), 1))
        draws = draws[:, :queries].transpose(0, 1)
        windows = Windows.draw(draws[:, :, :2], side, ball.x.shape)
        edges = ball.epsilon * to_signs(draws[:, :, 2:, None, None])
        return LinfMoves(windows, windows.read(ball.x).add_(edges).clamp_(0, 1))


@dataclass(frozen=True, slots=True)
class L2Moves:
    """Moves the perturbation of each image from a second window to a first one.

    Args:
        side: of the windows, in pixels.
        draws: `q n …`.
    """

    side: int
    draws: Tensor

    def __len__(self) -> int:
        """Return the number of queries."""
        return len(self.draws)

    def subset(self, indices: Tensor) -> "L2Moves":
        """Return the moves of the images at `indices`."""
        return L2Moves(self.side, self.draws[:, indices])

    def propose(self, best: Images, ball: Ball, number: int) -> Proposal:
        """Return new images, and leave `best` as it is."""
        channels, side, draws = best.shape[1], self.side, self.draws[number]
        first = Windows.draw(draws[:, :2], side, best.shape)
        second = Windows.draw(draws[:, 2:4], side, best.shape)
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
        changed = torch.arange(len(best), device=best.device)
        return Proposal(proposed, changed, lambda better: torch.lerp(best, proposed, expand(better.float())))


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

    def prepare(self, ball: Ball, query: int, draws: Tensor) -> L2Moves:
        """Return the moves of `query` and of the queries after it that have windows of the same side.

        Args:
            draws: `n q …`, of `query` and those after it.
        """
        side = window_side(query, ball.x.shape, self.initial_share, Norm.L2)
        return L2Moves(side, draws[:, : count_queries(query)].transpose(0, 1))


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
    proposal = Proposal(best, search.rows, lambda _: best)
    moves: Moves | None = None
    value, first = torch.full((len(x),), -torch.inf, device=x.device), 0
    for query in range(spec.queries + 1):
        if query % _DRAW_BLOCK == 0:
            draws = random.uniform(len(y), _DRAW_BLOCK, windows.count_draws(x.shape[1]))
        if len(proposal.changed):
            new_value = _evaluate(classifier, proposal, y)
            best = proposal.keep(new_value > value)
            value = torch.maximum(value, new_value)
            places = search.leave(best, value > 0)
            if places is not None:
                y, best, value, draws = y[places], best[places], value[places], draws[places]
                ball, random, moves = ball.subset(places), random.subset(places), moves and moves.subset(places)
        if not len(y) or query == spec.queries:
            break
        if moves is None or query - first == len(moves):
            moves, first = windows.prepare(ball, query, draws[:, query % _DRAW_BLOCK :]), query
        proposal = moves.propose(best, ball, query - first)
    return search.finish(best)


def _evaluate(classifier: Classifier, proposal: Proposal, y: Labels) -> PerImage:
    """Return the margin loss of each image; −∞ where no pixel changed."""
    changed = proposal.changed
    if len(changed) == len(y):
        return margin_loss(classifier(proposal.images), y)
    value = margin_loss(classifier(_select_images(proposal.images, changed)), y[changed])
    return torch.full_like(y, -torch.inf, dtype=value.dtype).index_copy_(0, changed, value)


def _select_images(images: Images, rows: Tensor) -> Tensor:
    """Return the images of these rows. Plain indexing takes several times as long for channels-last images on a CPU."""
    if not images.is_contiguous(memory_format=torch.channels_last):
        return images[rows]
    return images.permute(0, 2, 3, 1).index_select(0, rows).permute(0, 3, 1, 2)


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
