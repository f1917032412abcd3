"""What is done when a device has no room for a batch, and how much of it was taken."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch
from torch import Tensor

from faal_core.errors import OutOfMemory
from faal_core.errors.memory_exhaustion import is_out_of_memory

T = TypeVar("T")


def peak_bytes() -> int | None:
    """The most that this process has held of its GPUs' memory at a time; None where it has used none."""
    if not torch.cuda.is_initialized():
        return None
    return sum(torch.cuda.max_memory_reserved(gpu) for gpu in range(torch.cuda.device_count()))


@contextmanager
def room_for(batch_size: int) -> Iterator[None]:
    """Raises: OutOfMemory where the device has no room for a batch."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise OutOfMemory(
            f"The device has no room for {batch_size} images at a time; ask for a smaller batch."
        ) from error


class Pieces:
    """Does work on batches in pieces that fit: as large as ever fitted, halved whenever the device has no room.

    Args:
        size: images at a time, at first.
        least: a piece is never made smaller than that many images.
    """

    def __init__(self, size: int, least: int = 1) -> None:
        self._size, self._least = size, least

    def fit(self, work: Callable[[int], T], count: int) -> T:
        """What `work` answers, told how many of `count` images to take at a time; told so anew whenever there was no room.

        Raises: OutOfMemory where there is no room for the least.
        """
        while True:
            size = max(min(self._size, count), 1)
            try:
                return work(size)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                if size <= self._least:
                    raise OutOfMemory(f"The device has no room for {size} images at a time.") from error
            self._size = max(size // 2, self._least)
            torch.cuda.empty_cache()  # here, where the error no longer holds the batch

    def each(self, work: Callable[[Tensor], list[T]], rows: Tensor) -> list[T]:
        """What `work` answers to each of `rows`, given some at a time. Raises: OutOfMemory."""
        answers: list[T] = []

        def go_on(size: int) -> list[T]:
            return work(rows[len(answers) : len(answers) + size])

        while len(answers) < len(rows):
            answers += self.fit(go_on, len(rows) - len(answers))
        return answers
