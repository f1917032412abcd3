"""Test that batches that do not fit into memory are halved, and that no result is lost."""

import pytest
import torch

from faal_core.devices import Pieces
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
