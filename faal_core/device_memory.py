"""How many images fit: into a device's memory, and into a CPU's cache."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch
from torch import Tensor, nn

from faal_core.classifier import Classifier
from faal_core.errors import OutOfMemory

_LAYER_IN_CACHE = 6 * 2**20  # bytes; where docs/benchmarks.md found forward and backward passes fastest on two CPUs

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


def images_in_cache(classifier: Classifier, shape: torch.Size) -> int:
    """How many images a CPU passes at a time fastest: the largest of the network's layers then fits its cache, more or less.

    Args:
        shape: of one image.
    Cost: one forward pass of two images. On a GPU, and where the network does not take such images, there is no limit.
    """
    if classifier.device.type != "cpu":
        return sys.maxsize
    largest = 1

    def look(_module: nn.Module, _inputs: object, output: object) -> None:
        nonlocal largest
        if isinstance(output, Tensor):
            largest = max(largest, output.element_size() * output.numel() // 2)

    hooks = [module.register_forward_hook(look) for module in classifier.modules()]
    try:
        with torch.no_grad():
            classifier(classifier.lay_out(torch.zeros(2, *shape)))
    except (RuntimeError, ValueError, AssertionError):  # who passes images is told so then
        return sys.maxsize
    finally:
        for hook in hooks:
            hook.remove()
    return max(_LAYER_IN_CACHE // largest, 1)


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
