"""What is done when a device has no room for a batch."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch
from torch import Tensor

from faal_core.errors import OutOfMemory

T = TypeVar("T")


def is_out_of_memory(error: Exception) -> bool:
    """Whether that is what torch says of a GPU's memory, or of the machine's."""
    signs = ("DefaultCPUAllocator", "ALLOC_FAILED")  # of the machine's memory, and of cuBLAS and cuDNN
    return isinstance(error, torch.OutOfMemoryError) or any(sign in str(error) for sign in signs)


@contextmanager
def room_for(batch_size: int) -> Iterator[None]:
    """Raises: OutOfMemory where the device has no room for a batch."""
    try:
        yield
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        raise OutOfMemory(
            f"The device has no room for {batch_size} images at a time; ask for a smaller batch."
        ) from error


class Pieces:
    """Does work on batches in pieces that fit: as large as ever fitted, halved whenever the device has no room."""

    def __init__(self, size: int) -> None:
        self._size = size

    def each(self, work: Callable[[Tensor], list[T]], rows: Tensor) -> list[T]:
        """What `work` answers to each of `rows`, given some at a time.

        Raises: OutOfMemory where there is no room for one.
        """
        answers: list[T] = []
        while len(answers) < len(rows):
            piece = rows[len(answers) : len(answers) + self._size]
            try:
                answers += work(piece)
                continue
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    raise
                if len(piece) == 1:
                    raise OutOfMemory("The device has no room for a single image.") from error
            self._size = len(piece) // 2
            torch.cuda.empty_cache()  # here, where the error no longer holds the batch
        return answers
