"""Signs in the images: copies among them, images that were trained on, a radius smaller than a grey level."""

import hashlib
from collections import Counter
from collections.abc import Set
from pathlib import Path

import numpy as np
import torch

from faal_core import catalog, datasets
from faal_core.datasets import npz_archive
from faal_core.datasets.labelled_images import LabelledImages, Part
from faal_core.results.documents import ReliabilityWarning
from faal_core.threat_model import ThreatModel

# Of the images audited. What is below moves no mean by more than a tenth of a point, and well-known sets have a few such images.
_TRAINED_SHARE = 0.001

# Of the images audited. Intervals count every image as drawn for itself; a copy in a hundred widens the true ones by 1 %.
_COPIED_SHARE = 0.01

_GREY_LEVEL = 1 / 255


def pixel_digests(data: LabelledImages) -> list[bytes]:
    """Return a digest of each image's pixels, in its own levels. Cost: about a second for 1 GB."""
    return _digests(data.images.contiguous().numpy())


def training_digests(ref: str, part: Part, *, root: Path | None = None) -> frozenset[bytes]:
    """Return `pixel_digests` of the training images of the data set `ref`, as `datasets.load` takes it; often none.

    Only named sets and archives of arrays are read: to decode the training part of a folder or zip of images could take longer
    than the audit. None where the training part itself is audited, where there is none, or where it cannot be read.

    Args:
        part: the part that is audited.
    """
    if part == "train":
        return frozenset()
    try:
        if ref in catalog.datasets():
            return frozenset(pixel_digests(datasets.load(ref, "train", root=root)))
        path = Path(ref)
        if not datasets.is_archive_of_arrays(path):
            return frozenset()
        return frozenset(digest for images in npz_archive.pieces(path, "train") for digest in _digests(images))
    except Exception:  # noqa: BLE001 - a site's own builder can raise anything, and the audit needs no training part
        return frozenset()


def _digests(images: np.ndarray) -> list[bytes]:
    return [hashlib.blake2b(image, digest_size=16).digest() for image in images]


def examine_images(
    data: LabelledImages, threat: ThreatModel, trained_on: Set[bytes] = frozenset()
) -> list[ReliabilityWarning]:
    """Return what is suspicious about the images audited; often nothing.

    Args:
        trained_on: `pixel_digests` of the training images, where they are known.
    """
    digests = pixel_digests(data)
    found = [training_images(data, digests, trained_on), copies(data, digests), radius_below_a_level(data, threat)]
    return [warning for warning in found if warning]


def training_images(data: LabelledImages, digests: list[bytes], trained_on: Set[bytes]) -> ReliabilityWarning | None:
    """Return `training-images` where images audited are training images too, to the pixel."""
    rows = [row for row, digest in enumerate(digests) if digest in trained_on]
    if len(rows) <= _TRAINED_SHARE * len(data):
        return None
    return ReliabilityWarning(
        code="training-images",
        message="Images audited here are training images too, so the rates are higher than on new images.",
        evidence=f"{len(rows):,} of {len(data):,} images ({len(rows) / len(data):.1%}) have the same pixels as a training image, "
        f"first {_described(data, rows[0])}",
        advice="Remove them from one of the two parts, and train and audit again.",
    )


def copies(data: LabelledImages, digests: list[bytes]) -> ReliabilityWarning | None:
    """Return `copied-images` where images audited are copies of one another."""
    counts = Counter(digests)
    copied = len(digests) - len(counts)
    if copied <= _COPIED_SHARE * len(data):
        return None
    commonest, times = counts.most_common(1)[0]
    labels = {digest: set[int]() for digest, count in counts.items() if count > 1}
    for digest, label in zip(digests, data.labels.tolist(), strict=True):
        if digest in labels:
            labels[digest].add(label)
    contradictory = sum(len(classes) > 1 for classes in labels.values())
    several = f"; {contradictory:,} pictures are in several classes" if contradictory else ""
    return ReliabilityWarning(
        code="copied-images",
        message="Images audited here are copies of one another, so the intervals are too narrow.",
        evidence=f"{copied:,} of {len(data):,} images repeat another; one is there {times:,} times, first "
        f"{_described(data, digests.index(commonest))}{several}",
        advice="Keep each picture once. Where pictures are black or of one colour, check how they were converted: floats in "
        "[0, 1] that are stored as whole numbers turn black.",
    )


def radius_below_a_level(data: LabelledImages, threat: ThreatModel) -> ReliabilityWarning | None:
    """Return `radius-below-grey-level` where no image of 8 bits differs from another by as little as the radius."""
    if data.images.dtype != torch.uint8 or threat.epsilon >= _GREY_LEVEL * (1 - 1e-6):
        return None
    return ReliabilityWarning(
        code="radius-below-grey-level",
        message="The radius is smaller than one grey level of these images, so hardly anything was attacked.",
        evidence=f"ε = {threat.epsilon:.3g}; the levels of 8-bit images are 1/255 = {_GREY_LEVEL:.3g} apart",
        advice="State the radius in pixels of [0, 1], such as 8/255, and divide by 255 once only.",
    )


def _described(data: LabelledImages, row: int) -> str:
    return f"image {row} of class {data.class_names[int(data.labels[row])]!r}"
