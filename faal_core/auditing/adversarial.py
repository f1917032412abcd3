"""The adversarial images of an audit, in memory or in a file."""

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from faal_core.datasets.labelled_images import LabelledImages
from faal_core.errors import InvalidSpec

_CHUNK = 256  # images that are copied at a time


class AdversarialImages:
    """Holds one image per audited image, float32 `n c h w` in [0, 1]: the one that broke it, or else the image itself.

    Args:
        data: the audited images.
        path: .npy file to hold the images, mapped into memory; None holds them in memory alone.
        resumes: whether an earlier, killed audit wrote some of them into the file.
    Raises: InvalidSpec where the file lacks images of the audit that is resumed, or is no .npy file; OSError.
    """

    def __init__(self, data: LabelledImages, path: Path | None, *, resumes: bool) -> None:
        shape = tuple(data.images.shape)
        if path is not None and path.suffix != ".npy":
            raise InvalidSpec(f"Adversarial images are written to a .npy file, not {path.name}.")
        if resumes:
            self._images = _open(path, shape)
            return
        self._images = (
            np.empty(shape, np.float32)
            if path is None
            else np.lib.format.open_memmap(path, "w+", dtype=np.float32, shape=shape)
        )
        for rows in torch.arange(len(data)).split(_CHUNK):
            self._images[rows.numpy()] = data.pixels(rows, torch.device("cpu")).numpy()

    def store(self, rows: Tensor, x_adv: Tensor) -> None:
        """Store the images that broke those at `rows`."""
        self._images[rows.numpy()] = x_adv.cpu().numpy()

    def to_tensor(self) -> Tensor:
        """Return all images; those of a file stay in the file."""
        return torch.from_numpy(self._images)


def _open(path: Path | None, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Return the images that a killed audit wrote. Raises: InvalidSpec."""
    images = np.load(path, "r+", allow_pickle=False) if path is not None and path.exists() else None
    if images is None or images.shape != shape or images.dtype != np.float32:
        raise InvalidSpec(
            f"The ledger has results, and {path or 'memory'} lacks their adversarial images. Name the file that the audit wrote "
            "before, or start with a new ledger."
        )
    return images
