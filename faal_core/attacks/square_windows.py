"""Define the windows of the Square attack: their side and places, and the pattern that fills them for L2."""

import math
import sys
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from faal_core.classifier import Images
from faal_core.threat_model import Norm

_HALVING_QUERIES = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)  # whatever the number of queries
_TINY = 1e-12  # keeps divisors positive

Index = tuple[Tensor, slice, Tensor, Tensor]


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


def count_queries(query: int) -> int:
    """Return the number of queries, from this one on, until the area of the windows is halved."""
    return next((halving + 1 - query for halving in _HALVING_QUERIES if halving >= query), sys.maxsize)


@dataclass(slots=True)
class Windows:
    """Selects one square window in each image, across all channels, or one for each of several queries.

    Args:
        side: side of the window in pixels.
        places: places of the images in the batch, `n`.
        row, column: the window's first row and column in each image, `n` or `q n`.
    """

    side: int
    places: Tensor
    row: Tensor
    column: Tensor

    @classmethod
    def draw(cls, draws: Tensor, side: int, shape: torch.Size) -> "Windows":
        """Return the windows that random numbers select.

        Args:
            draws: two numbers in [0, 1) per image, `n 2` or `q n 2`: the window's place among all that fit, from the top and
                from the left.
            side: at most the height and width of the images.
            shape: shape of the images, `n c h w`.
        """
        *_, height, width = shape
        row, column = (draws[..., 0] * (height - side + 1)).long(), (draws[..., 1] * (width - side + 1)).long()
        return cls(side, torch.arange(shape[0], device=draws.device), row, column)

    def select_query(self, number: int) -> "Windows":
        """Return the windows of query `number` (from 0)."""
        return Windows(self.side, self.places, self.row[number], self.column[number])

    def subset(self, indices: Tensor) -> "Windows":
        """Return the windows of the images at `indices`."""
        return Windows(self.side, self.places[: len(indices)], self.row[..., indices], self.column[..., indices])

    def locate(self, images: Images) -> tuple[Tensor, Index]:
        """Return a view of every window in every place, `n c top left side side`, and the index of these windows in it.

        The view at the index is `n c side side` or `q n c side side`; it can be read and overwritten.
        """
        view = images.unfold(2, self.side, 1).unfold(3, self.side, 1)
        return view, (self.places, slice(None), self.row, self.column)

    def read(self, images: Images) -> Tensor:
        """Return a copy of the windows' pixels in `images`."""
        view, index = self.locate(images)
        return view[index]

    def write(self, images: Images, pixels: Tensor) -> None:
        """Overwrite the windows in `images` with `pixels`, `n c side side`."""
        view, index = self.locate(images)
        view[index] = pixels


def to_signs(draws: Tensor) -> Tensor:
    """Return −1 or 1 for each number in [0, 1)."""
    return torch.where(draws < 0.5, -1.0, 1.0)


def expand_channels(per_channel: Tensor) -> Tensor:
    """Return one number per image and channel in shape `n c 1 1`, which multiplies images."""
    return per_channel.unsqueeze(2).unsqueeze(3)


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
