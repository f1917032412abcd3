"""Share out the attack of a batch to threads, each of which computes whole images on its own processor core."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import nn

from faal_core.classifier import Classifier

Item = TypeVar("Item")
Result = TypeVar("Result")
_LEAST_IMAGES = (
    8  # per thread: convolutions of 4 images take 1.3 times as long per image as those of 16 (docs/decisions/0045)
)
# Modules of these packages store nothing in a forward pass in eval mode.
_STATELESS = ("torch.nn.modules.", "faal_core.")
_RANDOM = (nn.FractionalMaxPool2d, nn.FractionalMaxPool3d)  # in eval mode, too


@dataclass(frozen=True, slots=True)
class AttackThreads:
    """Numbers of threads for the attack of one batch.

    Args:
        count: threads that compute pieces of the batch side by side.
        torch_threads: threads that share the operations of one piece, in each of the `count` threads.
    """

    count: int
    torch_threads: int

    @classmethod
    def for_batch(cls, classifier: Classifier, images: int) -> "AttackThreads":
        """Return a thread for each processor thread that torch uses, and one thread where images must pass one after another.

        That is so on a GPU, for fewer than 16 images, and for a network with hooks or modules of other packages: its forward pass
        may store values, or draw random numbers in an order that differs from run to run.
        """
        total = torch.get_num_threads()
        if classifier.device.type != "cpu" or not _is_stateless(classifier):
            return cls(1, total)
        count = max(min(total, images // _LEAST_IMAGES), 1)
        return cls(count, total // count)

    def count_pieces(self, images: int, largest: int) -> int:
        """Return the number of equal pieces, of at most `largest` images, that keep all threads busy."""
        per_thread = -(-images // (self.count * largest))
        return max(min(self.count * per_thread, images), 1)

    def map(self, work: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
        """Return the results of `work` in the order of `items`. Raises: the first error, once no thread works any more."""
        if self.count == 1:
            return [work(item) for item in items]
        total = torch.get_num_threads()
        precision, is_autocast = torch.get_autocast_dtype("cpu"), torch.is_autocast_enabled("cpu")

        def compute(item: Item) -> Result:
            with torch.autocast("cpu", dtype=precision, enabled=is_autocast, cache_enabled=False):
                return work(item)

        try:
            with ThreadPoolExecutor(
                self.count, initializer=torch.set_num_threads, initargs=(self.torch_threads,)
            ) as pool:
                futures = [pool.submit(compute, item) for item in items]
                wait(futures)
            return [future.result() for future in futures]
        finally:
            torch.set_num_threads(total)  # the last value set in any thread is that of every thread to come


def _is_stateless(classifier: Classifier) -> bool:
    """Return whether all modules of the network come from torch or FAAL, none draws random numbers, and none has hooks."""
    return not any(
        not type(module).__module__.startswith(_STATELESS) or isinstance(module, _RANDOM) or _has_hooks(module)
        for module in classifier.backbone.modules()
    ) and not _has_hooks(classifier)


def _has_hooks(module: nn.Module) -> bool:
    names = (
        "_forward_hooks",
        "_forward_pre_hooks",
        "_backward_hooks",
        "_backward_pre_hooks",
    )  # there is no public list
    return any(getattr(module, name) for name in names)
