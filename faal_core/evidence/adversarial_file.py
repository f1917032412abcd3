"""Read the adversarial images of a pack some at a time, and check that they are those that the outcomes name."""

import hashlib
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from faal_core.evidence.archive import Member
from faal_core.evidence.refusal import PackRefused
from faal_core.results.documents import AuditReport
from faal_core.results.outcomes import Outcomes

_CHUNK = 250  # images in memory at a time
_MOST_HEADER_BYTES = 10_000


class ImageChunk(NamedTuple):
    """Holds consecutive images, `n c h w` in [0, 1], from the row `start` on."""

    start: int
    pixels: NDArray[np.float32]


def iterate_images(member: Member, report: AuditReport, outcomes: Outcomes) -> Iterator[ImageChunk]:
    """Yield the images in the order of the audit, each chunk after it was checked.

    Raises: PackRefused if the file is no .npy file of these images, an image has pixels outside of [0, 1], or the SHA-256 of an
        image that broke one is not the one in the outcomes; OSError.
    """
    shape, digests = (len(outcomes.rows), *report.dataset.shape), outcomes.evaluation.sha256
    with member.open() as file:
        try:
            version = np.lib.format.read_magic(file)
            header = np.lib.format.read_array_header_1_0(file, _MOST_HEADER_BYTES) if version == (1, 0) else None
        except (ValueError, EOFError):
            header = None
        image_bytes = 4 * int(np.prod(shape[1:]))
        if header != (shape, False, np.dtype("<f4")) or member.size != file.tell() + shape[0] * image_bytes:
            size = " × ".join(map(str, shape))
            raise PackRefused(f"The adversarial images are not {size} numbers of 32 bits in a .npy file.")
        for start in range(0, shape[0], _CHUNK):
            count = min(_CHUNK, shape[0] - start)
            pixels = np.frombuffer(file.read(count * image_bytes), "<f4").reshape(count, *shape[1:])
            if not ((pixels >= 0) & (pixels <= 1)).all():
                raise PackRefused(
                    f"An adversarial image among {start} to {start + count - 1} has pixels outside of [0, 1]."
                )
            for row, image in enumerate(pixels, start):
                if digests[row] not in ("", hashlib.sha256(image.tobytes()).hexdigest()):
                    raise PackRefused(
                        f"Adversarial image {row} is not the one that the outcomes name: its SHA-256 differs."
                    )
            yield ImageChunk(start, pixels.astype(np.float32))
