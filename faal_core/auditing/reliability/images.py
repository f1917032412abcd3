"""Check the audited images: copies among them, training images among them, a radius smaller than a grey level."""

import hashlib
from collections import Counter
from collections.abc import Set as AbstractSet
from pathlib import Path

import numpy as np
import torch

from faal_core import catalog, datasets
from faal_core.datasets import npz_archive
from faal_core.datasets.labelled_images import LabelledImages, Part
from faal_core.results.documents import ReliabilityWarning
from faal_core.threat_model import ThreatModel

# Fraction of the images audited. Fewer move a mean by at most a tenth of a point, and well-known sets have a few such images.
_TRAINED_FRACTION = 0.001

# Fraction of the images audited. Intervals take every image as drawn independently; 1 % copies make them 1 % too narrow.
_COPIED_FRACTION = 0.01

_GREY_LEVEL = 1 / 255  # distance of two levels of 8-bit images, in pixels of [0, 1]


def digest_pixels(data: LabelledImages) -> list[bytes]:
    """Return a digest of each image's pixels, in the levels in which it is stored. Cost: about a second for 1 GB."""
    return [digest for piece in data.pieces() for digest in _digest_each(piece)]


def digest_training_images(ref: str, part: Part, *, root: Path | None = None) -> frozenset[bytes]:
    """Return `digest_pixels` of the training images of the data set `ref`, as `datasets.load` takes it.

    Only named sets and archives of arrays are read: to decode the training part of a folder or zip of images could take
    longer than the audit. The result is empty for those, where the training part itself is audited, and where no training
    part exists or can be read.

    Args:
        part: the part that is audited.
    """
    if part == "train":
        return frozenset()
    try:
        if ref in catalog.datasets():
            return frozenset(digest_pixels(datasets.load(ref, "train", root=root)))
        path = Path(ref)
        if not datasets.is_archive_of_arrays(path):
            return frozenset()
        return frozenset(
            digest for images in npz_archive.iterate_chunks(path, "train") for digest in _digest_each(images)
        )
    except Exception:  # noqa: BLE001 - a site's own builder can raise anything, and the audit needs no training part
        return frozenset()


def _digest_each(images: np.ndarray) -> list[bytes]:
    return [hashlib.blake2b(image, digest_size=16).digest() for image in images]


def examine_images(
    data: LabelledImages, threat: ThreatModel, trained_on: AbstractSet[bytes] = frozenset()
) -> list[ReliabilityWarning]:
    """Return warnings about the audited images.

    Args:
        trained_on: `digest_pixels` of the training images, where they are known.
    """
    digests = digest_pixels(data)
    warnings = [
        check_training_images(data, digests, trained_on),
        check_copies(data, digests),
        check_grey_level(data, threat),
    ]
    return [warning for warning in warnings if warning]


def check_training_images(
    data: LabelledImages, digests: list[bytes], trained_on: AbstractSet[bytes]
) -> ReliabilityWarning | None:
    """Return `training-images` where audited images have the same pixels as training images."""
    rows = [row for row, digest in enumerate(digests) if digest in trained_on]
    if len(rows) <= _TRAINED_FRACTION * len(data):
        return None
    return ReliabilityWarning(
        code="training-images",
        message="Some audited images are also training images, so the rates are higher than on new images.",
        evidence=f"{len(rows):,} of {len(data):,} images ({len(rows) / len(data):.1%}) have the same pixels as a training image, "
        f"first {_describe_image(data, rows[0])}",
        advice="Remove these images from the training part or from the test part, and train and audit again.",
    )


def check_copies(data: LabelledImages, digests: list[bytes]) -> ReliabilityWarning | None:
    """Return `copied-images` where audited images are copies of one another."""
    counts = Counter(digests)
    copied = len(digests) - len(counts)
    if copied <= _COPIED_FRACTION * len(data):
        return None
    commonest, times = counts.most_common(1)[0]
    labels = {digest: set[int]() for digest, count in counts.items() if count > 1}
    for digest, label in zip(digests, data.labels.tolist(), strict=True):
        if digest in labels:
            labels[digest].add(label)
    contradictory = sum(len(classes) > 1 for classes in labels.values())
    several = f"; {contradictory:,} repeated images are in several classes" if contradictory else ""
    return ReliabilityWarning(
        code="copied-images",
        message="Some audited images are copies of one another, so the intervals are too narrow.",
        evidence=f"{copied:,} of {len(data):,} images repeat another one; the commonest occurs {times:,} times, first "
        f"{_describe_image(data, digests.index(commonest))}{several}",
        advice="Keep each image once. Where images are black or of one colour, check the conversion: floats in [0, 1] "
        "that are stored as whole numbers become black.",
    )


def check_grey_level(data: LabelledImages, threat: ThreatModel) -> ReliabilityWarning | None:
    """Return `radius-below-grey-level` where the radius is smaller than the distance of two levels of 8-bit images."""
    if data.images.dtype != torch.uint8 or threat.epsilon >= _GREY_LEVEL * (1 - 1e-6):
        return None
    return ReliabilityWarning(
        code="radius-below-grey-level",
        message="The radius is smaller than one grey level of these images, so the attacks could change hardly "
        "anything.",
        evidence=f"ε = {threat.epsilon:.3g}; the levels of 8-bit images are 1/255 = {_GREY_LEVEL:.3g} apart",
        advice="State the radius for pixels in [0, 1], such as 8/255, and divide by 255 only once.",
    )


def _describe_image(data: LabelledImages, row: int) -> str:
    return f"image {row} of class {data.class_names[int(data.labels[row])]!r}"
