"""Find the device to compute on, handle one that lacks memory for a batch, and measure how much memory was used."""

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from operator import attrgetter
from typing import TypeVar

import torch
from torch import Tensor

from faal_core.errors import InvalidSpec, OutOfMemory
from faal_core.errors.memory_exhaustion import is_out_of_memory

T = TypeVar("T")


def find_device(name: torch.device | str) -> torch.device:
    """Return the device of that name; "auto" is a GPU where there is one. Raises: InvalidSpec."""
    devices = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
    devices += [f"cuda:{i}" for i in range(torch.cuda.device_count())]
    devices += ["mps"] if torch.backends.mps.is_available() else []
    if name == "auto":
        return torch.device("cuda" if "cuda" in devices else "cpu")
    if str(name) not in devices:
        raise InvalidSpec(f"device: {str(name)!r} is no device here; write auto, {', '.join(devices)}.")
    return torch.device(name)


def peak_bytes() -> int | None:
    """Return the most GPU memory that this process held at a time, in bytes; None where it used no GPU."""
    if not torch.cuda.is_initialized():
        return None
    return sum(torch.cuda.max_memory_reserved(gpu) for gpu in range(torch.cuda.device_count()))


def has_bfloat16(device: torch.device) -> bool:
    """Return whether the device has instructions for bfloat16; without them it is slower than float32."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    capabilities = torch.cpu.get_capabilities() if device.type == "cpu" else {}
    return any(capabilities.get(name, False) for name in ("avx512_bf16", "amx_bf16"))


class _FullFloat32:
    """Sets the precisions of the process when the first context begins, and restores them when the last one ends."""

    _NAMES = ("cudnn.conv", "cudnn.rnn", "cuda.matmul", "mkldnn.conv", "mkldnn.matmul")

    def __init__(self) -> None:
        self._contexts, self._before = 0, dict[str, str]()
        self._renew_lock()
        if hasattr(os, "register_at_fork"):  # not on Windows
            os.register_at_fork(after_in_child=self._renew_lock)  # a thread that the fork lacks may hold it

    @contextmanager
    def __call__(self) -> Iterator[None]:
        """Compute float32 products and convolutions in full within the context, not in TensorFloat-32 or bfloat16.

        A GPU rounds the inputs of convolutions to TensorFloat-32 by default, and a program may allow it for products. Several
        threads may be in such a context at a time.
        """
        try:
            self._change_count(1)
            yield
        finally:
            self._change_count(-1)

    def _renew_lock(self) -> None:
        self._lock = threading.Lock()

    def _change_count(self, number: int) -> None:
        with self._lock:
            was_full, self._contexts = self._contexts > 0, self._contexts + number
            if not was_full:
                self._before = {name: attrgetter(name)(torch.backends).fp32_precision for name in self._NAMES}
            if was_full != (self._contexts > 0):
                for name, precision in self._before.items():
                    attrgetter(name)(torch.backends).fp32_precision = precision if was_full else "ieee"


full_float32 = _FullFloat32()


@contextmanager
def require_room(batch_size: int) -> Iterator[None]:
    """Turn a lack of device memory within the context into OutOfMemory."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise OutOfMemory(
            f"The device has not enough memory for {batch_size} images at a time. Choose a smaller batch size."
        ) from error


class Pieces:
    """Does work on batches in pieces that fit into memory: as large as the last piece that fitted, halved when memory lacks.

    Args:
        size: images per piece at first.
        least: smallest number of images in a piece.
    """

    def __init__(self, size: int, least: int = 1) -> None:
        self._size, self._least = size, least

    def fit(self, work: Callable[[int], T], count: int) -> T:
        """Call `work` with the number of images to take, and return its result.

        The number is at most `count`. Where memory lacks, `work` is called again with half as many.

        Raises: OutOfMemory where memory lacks even for the smallest piece.
        """
        while True:
            size = max(min(self._size, count), 1)
            try:
                return work(size)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                if size <= self._least:
                    raise OutOfMemory(
                        f"The device has not enough memory for {size} images at a time. Free some of its memory."
                    ) from error
            self._size = max(size // 2, self._least)
            torch.cuda.empty_cache()  # here, where the error no longer holds the batch

    def map(self, work: Callable[[Tensor], list[T]], rows: Tensor) -> list[T]:
        """Return the results of `work` for all `rows`, called piece by piece. Raises: OutOfMemory."""
        results: list[T] = []

        def do_next(size: int) -> list[T]:
            return work(rows[len(results) : len(results) + size])

        while len(results) < len(rows):
            results += self.fit(do_next, len(rows) - len(results))
        return results
