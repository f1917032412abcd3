"""Memory that ran out is recognised however it shows."""

import pytest
import torch

from worker import memory


def test_torch_says_so_on_a_processor():
    """The allocation torch cannot serve on a CPU counts."""
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**60, dtype=torch.uint8)
    assert memory.ran_out(caught.value)


def test_torch_says_so_on_a_gpu():
    """The exception torch raises on a GPU counts; its words are those of torch 2.13."""
    assert memory.ran_out(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."))


def test_python_says_so():
    """Python's own exception counts."""
    with pytest.raises(MemoryError) as caught:
        bytearray(2**62)
    assert memory.ran_out(caught.value)


def test_other_errors_do_not_count():
    """An error of another kind does not count, whatever its type."""
    assert not memory.ran_out(RuntimeError("shapes do not match"))
    assert not memory.ran_out(ValueError("out of memory"))


def test_kills_are_counted():
    """The system's counter is a number that does not fall."""
    first = memory.kills()
    assert 0 <= first <= memory.kills()
