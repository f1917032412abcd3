"""Test that batches that do not fit into memory are halved without loss, and that audits compute in full float32."""

from operator import attrgetter

import pytest
import torch
from torch import nn

from faal_core.auditing.evaluator import Evaluator
from faal_core.classifier import Classifier
from faal_core.datasets import LabelledImages
from faal_core.devices import Pieces, full_float32
from faal_core.errors import OutOfMemory


def test_pieces_are_halved_until_they_fit_and_stay_so() -> None:
    """With memory for three rows, ten are processed in pieces of at most three, each once and in order, also in later work."""
    sizes: list[int] = []

    def work(rows: torch.Tensor) -> list[int]:
        sizes.append(len(rows))
        if len(rows) > 3:
            raise torch.OutOfMemoryError("no room")
        return rows.tolist()

    pieces, rows = Pieces(8), torch.arange(10) * 5
    assert pieces.map(work, rows) == rows.tolist()
    assert sizes == [8, 4, 2, 2, 2, 2, 2]
    sizes.clear()
    assert pieces.map(work, rows) == rows.tolist()
    assert max(sizes) == 2


def test_no_room_for_one_image_is_an_error() -> None:
    """A single image that does not fit raises an error that says so; other errors pass unchanged."""

    def full(rows: torch.Tensor) -> list[int]:
        raise torch.OutOfMemoryError("no room")

    def broken(rows: torch.Tensor) -> list[int]:
        raise RuntimeError("something else")

    with pytest.raises(OutOfMemory, match="memory for 1 images"):
        Pieces(4).map(full, torch.arange(4))
    with pytest.raises(RuntimeError, match="something else"):
        Pieces(4).map(broken, torch.arange(4))


def read_precision(name: str) -> str:
    """Return the number format that a backend of torch rounds float32 to."""
    return str(attrgetter(f"{name}.fp32_precision")(torch.backends))


def test_audits_compute_float32_in_full_and_restore_the_program_s_choice() -> None:
    """Inside a batch no product or convolution is rounded to a shorter format; afterwards the former choice is in force."""
    seen: list[str] = []

    class Watching(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            seen.extend(map(read_precision, ("cudnn.conv", "mkldnn.matmul")))
            return x.flatten(1)

    data = LabelledImages(torch.zeros(2, 1, 1, 2, dtype=torch.uint8), torch.tensor([0, 1]), ("a", "b"), "blank", "test")
    evaluator = Evaluator(
        Classifier.wrap(Watching(), num_classes=2), data, device=torch.device("cpu"), batch_size=2, seed=0
    )
    seen.clear()
    before = read_precision("cudnn.conv"), torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        evaluator.evaluate_clean(torch.arange(2))
        assert set(seen) == {"ieee"}
        assert (read_precision("cudnn.conv"), torch.get_float32_matmul_precision()) == (before[0], "medium")
    finally:
        torch.set_float32_matmul_precision(before[1])


def test_float32_is_full_until_the_last_of_two_threads_ends() -> None:
    """A context that ends while another one lasts changes nothing; the last one restores the program's choice."""
    before, first, second = read_precision("cudnn.conv"), full_float32(), full_float32()
    first.__enter__()  # as two threads enter and leave
    second.__enter__()
    first.__exit__(None, None, None)
    assert read_precision("cudnn.conv") == "ieee"
    second.__exit__(None, None, None)
    assert read_precision("cudnn.conv") == before != "ieee"
    _ = torch.backends.cudnn.allow_tf32  # raises RuntimeError where settings contradict each other
