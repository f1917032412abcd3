"""The adversarial images of an audit, in memory or in a file."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from faal_core.datasets.labelled_images import LabelledImages
from faal_core.errors import InvalidSpec
from faal_core.results.ledger import BatchResult

_CHUNK = 256  # images that are copied at a time


class AdversarialImages:
    """Holds one image per audited image, float32 `n c h w` in [0, 1]: the one that broke it, or else the image itself.

    Args:
        data: the audited images.
        path: .npy file to hold the images, mapped into memory; None holds them in memory alone.
        results: of an earlier, killed audit, which wrote its images into the file.
    Raises: InvalidSpec where the file exists and no audit is resumed, lacks images of the one that is, or is no .npy file;
        OSError.
    """

    def __init__(self, data: LabelledImages, path: Path | None, results: Sequence[BatchResult]) -> None:
        shape = tuple(data.images.shape)
        if path is not None and path.suffix != ".npy":
            raise InvalidSpec(f"Adversarial images are written to a .npy file, not {path.name}.")
        broken = {
            row: digest for result in results for row, digest in zip(result.rows, result.sha256, strict=True) if digest
        }
        if results:
            self._images = _open(path, shape, broken)
        elif path is None:
            self._images = np.empty(shape, np.float32)
        elif path.exists():
            raise InvalidSpec(
                f"{path} exists, and this audit does not resume the one that wrote it. Name another file."
            )
        else:
            self._images = np.lib.format.open_memmap(path, "w+", dtype=np.float32, shape=shape)
        for rows in torch.tensor([row for row in range(len(data)) if row not in broken], dtype=torch.int64).split(
            _CHUNK
        ):
            self._images[rows.numpy()] = data.pixels(rows, torch.device("cpu")).numpy()

    def store(self, result: BatchResult, x_adv: NDArray[np.float32]) -> None:
        """Store the images that broke images of a batch, in the order of its rows."""
        self._images[[row for row, digest in zip(result.rows, result.sha256, strict=True) if digest]] = x_adv

    def to_tensor(self) -> Tensor:
        """Return all images; those of a file stay in the file."""
        return torch.from_numpy(self._images)


def _open(path: Path | None, shape: tuple[int, ...], broken: Mapping[int, str]) -> NDArray[np.float32]:
    """Return the images that a killed audit wrote: those of the broken rows have these digests. Raises: InvalidSpec."""
    images = None
    if path is not None and path.exists():
        try:
            images = np.load(path, "r+", allow_pickle=False)
        except (ValueError, EOFError):
            raise InvalidSpec(f"{path} is no .npy file. Name the file that the audit wrote before.") from None
    if images is None or images.shape != shape or images.dtype != np.float32:
        raise InvalidSpec(
            f"The ledger has results, and {path or 'memory'} lacks their adversarial images. Name the file that the audit wrote "
            "before, or start with a new ledger."
        )
    if any(hashlib.sha256(images[row].tobytes()).hexdigest() != digest for row, digest in broken.items()):
        raise InvalidSpec(
            f"{path} has other adversarial images than the ledger vouches for: another audit wrote it. Name the file that this "
            "audit wrote before, or start with a new ledger."
        )
    return images
