"""Batch-norm's running statistics, put back after forward passes that are to leave no trace in them."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from faal_core.classifier import Classifier


@contextmanager
def statistics_kept(classifier: Classifier) -> Iterator[None]:
    """Afterwards all buffers are as they were before."""
    before = [buffer.clone() for buffer in classifier.buffers()]
    try:
        yield
    finally:
        _put_back(classifier, before)


@contextmanager
def statistics_restored(classifier: Classifier) -> Iterator[None]:
    """Likewise, but only where what was done within failed."""
    before = [buffer.clone() for buffer in classifier.buffers()]
    try:
        yield
    except BaseException:
        _put_back(classifier, before)
        raise


def _put_back(classifier: Classifier, before: list[torch.Tensor]) -> None:
    with torch.no_grad():
        for buffer, value in zip(classifier.buffers(), before, strict=True):
            buffer.copy_(value)
