"""Batch-norm's running statistics, restored after forward passes that must leave no trace in them."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from faal_core.classifier import Classifier


@contextmanager
def restored_statistics(classifier: Classifier) -> Iterator[None]:
    """Restore all buffers at the end of the block."""
    before = [buffer.clone() for buffer in classifier.buffers()]
    try:
        yield
    finally:
        _restore(classifier, before)


@contextmanager
def restored_statistics_on_error(classifier: Classifier) -> Iterator[None]:
    """Restore all buffers where the block raises; otherwise keep what it made of them."""
    before = [buffer.clone() for buffer in classifier.buffers()]
    try:
        yield
    except BaseException:
        _restore(classifier, before)
        raise


def _restore(classifier: Classifier, before: list[torch.Tensor]) -> None:
    with torch.no_grad():
        for buffer, value in zip(classifier.buffers(), before, strict=True):
            buffer.copy_(value)
