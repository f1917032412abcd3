"""Provide an attack's random numbers: one stream per image in audits, one stream per batch in training."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor


@runtime_checkable
class RandomSource(Protocol):
    """Draws random numbers for a batch of images."""

    def uniform(self, count: int, *shape: int) -> Tensor:
        """Draw numbers in [0, 1) of that shape for each of `count` images."""

    def normal(self, count: int, *shape: int) -> Tensor:
        """Draw standard normal numbers of that shape for each of `count` images."""


@dataclass(frozen=True, slots=True)
class BatchRandom:
    """Draws from one stream for all images, on the generator's device: fast, but an image's numbers depend on its batch."""

    generator: torch.Generator

    def uniform(self, count: int, *shape: int) -> Tensor:
        """Draw numbers in [0, 1)."""
        return torch.rand(count, *shape, generator=self.generator, device=self.generator.device)

    def normal(self, count: int, *shape: int) -> Tensor:
        """Draw standard normal numbers."""
        return torch.randn(count, *shape, generator=self.generator, device=self.generator.device)


class ImageRandom:
    """Draws from one stream per image: an image's numbers depend only on its seed, not on its batch or the device.

    The numbers are drawn on the CPU and moved to `device`.
    """

    def __init__(self, seeds: Sequence[int], device: torch.device) -> None:
        self._streams = [torch.Generator().manual_seed(seed) for seed in seeds]
        self._device = device

    def uniform(self, count: int, *shape: int) -> Tensor:
        """Draw numbers in [0, 1)."""
        return self._draw(torch.rand, count, shape)

    def normal(self, count: int, *shape: int) -> Tensor:
        """Draw standard normal numbers."""
        return self._draw(torch.randn, count, shape)

    def _draw(self, draw: Callable[..., Tensor], count: int, shape: tuple[int, ...]) -> Tensor:
        assert count == len(self._streams), "there must be one stream per image"  # noqa: S101
        return torch.stack([draw(shape, generator=stream) for stream in self._streams]).to(self._device)

    def subset(self, indices: Tensor) -> "ImageRandom":
        """Return the streams of the images at `indices`, in their current state."""
        selected = ImageRandom((), self._device)
        selected._streams = [self._streams[i] for i in indices.tolist()]
        return selected


def seed_from(*parts: int | str) -> int:
    """Return a seed in [0, 2⁵⁶) that depends on `parts` alone."""
    digest = hashlib.sha256("/".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:7], "big")
