"""Where an attack's random numbers come from: a stream for each image in audits, one for the whole batch in training."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor


@runtime_checkable
class RandomSource(Protocol):
    """Random numbers for a batch of images."""

    def uniform(self, count: int, *shape: int) -> Tensor:
        """Numbers in [0, 1) of that shape for each of `count` images."""

    def normal(self, count: int, *shape: int) -> Tensor:
        """Standard normal numbers of that shape for each of `count` images."""


@dataclass(frozen=True, slots=True)
class BatchRandom:
    """One stream for all images, drawn on its generator's device: fast, and dependent on the batch."""

    generator: torch.Generator

    def uniform(self, count: int, *shape: int) -> Tensor:
        """Numbers in [0, 1)."""
        return torch.rand(count, *shape, generator=self.generator, device=self.generator.device)

    def normal(self, count: int, *shape: int) -> Tensor:
        """Standard normal numbers."""
        return torch.randn(count, *shape, generator=self.generator, device=self.generator.device)


class ImageRandom:
    """A stream for each image: what an image gets depends on its seed alone, not on its batch, its neighbours or the device.

    The numbers are drawn on the CPU and moved to `device`.
    """

    def __init__(self, seeds: Sequence[int], device: torch.device) -> None:
        self._streams = [torch.Generator().manual_seed(seed) for seed in seeds]
        self._device = device

    def uniform(self, count: int, *shape: int) -> Tensor:
        """Numbers in [0, 1)."""
        return self._drawn(torch.rand, count, shape)

    def normal(self, count: int, *shape: int) -> Tensor:
        """Standard normal numbers."""
        return self._drawn(torch.randn, count, shape)

    def _drawn(self, draw: Callable[..., Tensor], count: int, shape: tuple[int, ...]) -> Tensor:
        assert count == len(self._streams), "one stream an image"  # noqa: S101
        return torch.stack([draw(shape, generator=stream) for stream in self._streams]).to(self._device)

    def of(self, kept: Tensor) -> "ImageRandom":
        """The streams of those images, where they are now."""
        chosen = ImageRandom((), self._device)
        chosen._streams = [self._streams[i] for i in kept.tolist()]
        return chosen


def seed_from(*parts: int | str) -> int:
    """A seed for that purpose alone: it depends on `parts` and on nothing that ran before."""
    digest = hashlib.sha256("/".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:7], "big")
