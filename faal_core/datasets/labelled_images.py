"""A part of a data set in memory: the whole of it as two tensors, no loader processes."""

import hashlib
from bisect import bisect_left
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from faal_core.catalog import Augmentation
from faal_core.classifier import Images, Labels
from faal_core.datasets.grouping import Grouping
from faal_core.datasets.names import require_names
from faal_core.datasets.pixel_range import in_unit_range
from faal_core.errors import DatasetInvalid
from faal_core.results.documents import ClassOrder, DatasetSummary

Part = Literal["train", "validation", "test"]


@dataclass(frozen=True)
class LabelledImages:
    """Images with their labels.

    Args:
        images: `n c h w`, uint8 (levels 0–255) or float32 (pixels in [0, 1]; an excess within rounding is clipped).
        labels: `n`, int64, each in 0..k-1 for k class names; a class may have no image.
        class_names: distinct, of 1 to `MAX_NAME_LENGTH` characters, without control characters.
        groups: columns with a group for each image, which audits are told by too; training does not look at them.
        augmentation: the random changes of training images that preserve their labels.
        class_order: how the order of the classes was decided.
        preparation: what was done to the stored images, one sentence each.
    Raises: DatasetInvalid where one of these does not hold; the message names the first offender.
    """

    images: Tensor
    labels: Labels
    class_names: tuple[str, ...]
    name: str
    part: Part
    groups: tuple[Grouping, ...] = ()
    augmentation: Augmentation = "none"
    class_order: ClassOrder = "stored"
    preparation: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        where = f"{self.name} ({self.part})"
        if self.images.ndim != 4 or not 1 <= self.images.shape[1] <= 4 or 0 in self.images.shape[2:]:
            raise DatasetInvalid(
                f"{where}: images are n × c × h × w with 1 to 4 channels, not {tuple(self.images.shape)}"
            )
        if len(self.images) != len(self.labels) or not len(self.labels):
            raise DatasetInvalid(f"{where}: {len(self.images)} images and {len(self.labels)} labels")
        if self.images.dtype not in (torch.uint8, torch.float32):
            raise DatasetInvalid(f"{where}: images are uint8 or float32, not {self.images.dtype}")
        if self.images.dtype == torch.float32:
            images, notes = in_unit_range(self.images, where)
            object.__setattr__(self, "images", images)
            object.__setattr__(self, "preparation", (*self.preparation, *notes))
        if len(set(self.class_names)) < len(self.class_names):
            raise DatasetInvalid(f"{where}: two classes have the same name among {sorted(self.class_names)[:10]}")
        require_names(f"{where}: a class", self.class_names)
        for grouping in self.groups:
            if len(grouping.members) != len(self):
                raise DatasetInvalid(
                    f"{where}: the column {grouping.column!r} has groups for {len(grouping.members)} of {len(self)} images"
                )
        low_label, high_label = int(self.labels.min()), int(self.labels.max())
        if low_label < 0 or high_label >= len(self.class_names):
            offender = low_label if low_label < 0 else high_label
            raise DatasetInvalid(f"{where}: label {offender} is not in 0…{len(self.class_names) - 1}")

    def __len__(self) -> int:
        return len(self.labels)

    @cached_property
    def counts(self) -> np.ndarray:
        """Images per class, int64 of length k."""
        return np.bincount(self.labels.numpy(), minlength=len(self.class_names))

    @property
    def classes_without_images(self) -> tuple[str, ...]:
        """Their names."""
        return tuple(self.class_names[c] for c in np.flatnonzero(self.counts == 0))

    @cached_property
    def sha256(self) -> str:
        """Digest of shape, levels and labels: the same images in the same order give the same digest."""
        digest = hashlib.sha256(str((tuple(self.images.shape), str(self.images.dtype))).encode())
        digest.update(self.images.contiguous().numpy().tobytes())
        digest.update(self.labels.numpy().astype("<i8").tobytes())
        return digest.hexdigest()

    def digest(self, row: int) -> str:
        """SHA-256 of one image's pixels, in its own levels."""
        return hashlib.sha256(self.images[row].contiguous().numpy().tobytes()).hexdigest()

    def pixels(self, rows: Tensor | slice, device: torch.device) -> Images:
        """Those images on `device`, float32 in [0, 1]."""
        chosen = self.images[rows].to(device)
        return chosen.float() / 255 if chosen.dtype == torch.uint8 else chosen

    def take(self, rows: Tensor) -> "LabelledImages":
        """Only those rows, in that order."""
        groups = tuple(grouping.take(rows.numpy()) for grouping in self.groups)
        return replace(self, images=self.images[rows], labels=self.labels[rows], groups=groups)

    def stratified(self, count: int, seed: int) -> Tensor:
        """`count` row numbers, spread over the classes in proportion (at least one of each that has images), ascending.

        Raises: DatasetInvalid when `count` exceeds the images or falls short of one a class.
        """
        classes = int((self.counts > 0).sum())
        if not classes <= count <= len(self):
            raise DatasetInvalid(
                f"{self.name} ({self.part}): {count} images asked for; {classes} to {len(self)} can be drawn"
            )
        return stratified(self.labels, self.counts, count, seed)

    def summary(self) -> DatasetSummary:
        """What a report says of it."""
        _, channels, height, width = self.images.shape
        return DatasetSummary(
            name=self.name,
            part=self.part,
            images=len(self),
            shape=(channels, height, width),
            class_names=self.class_names,
            class_order=self.class_order,
            preparation=self.preparation,
            sha256=self.sha256,
            augmentation=self.augmentation,
        )


def stratified(labels: Labels, counts: np.ndarray, count: int, seed: int) -> Tensor:
    """`count` places of `labels`, spread over the classes in proportion (at least one of each that has any), ascending.

    Args:
        counts: how many labels of each class there are, `k`; `count` lies between how many are not 0 and their sum.
    """
    total = int(counts.sum())
    shares = np.maximum(np.minimum(counts, 1), np.floor(counts * (count / total))).astype(int)
    remainders = counts * (count / total) - shares
    for c in np.argsort(-remainders, kind="stable")[: max(0, count - shares.sum())]:
        shares[c] += 1
    if (excess := int(shares.sum()) - count) > 0:
        shares = _lowered(shares, excess)
    generator = torch.Generator().manual_seed(seed)
    rows = []
    for members, share in zip(labels.argsort(stable=True).split(counts.tolist()), shares, strict=True):
        rows.append(members[torch.randperm(len(members), generator=generator)[: int(share)]])
    return torch.cat(rows).sort().values


def _lowered(shares: np.ndarray, excess: int) -> np.ndarray:
    """The shares without `excess` in all, as taken one by one from the first of the largest."""
    due = int(shares.sum()) - excess
    level = bisect_left(range(int(shares.max())), due, key=lambda height: int(np.minimum(shares, height).sum()))
    lowered = np.minimum(shares, level)
    lowered[np.flatnonzero(lowered == level)[: int(lowered.sum()) - due]] -= 1
    return lowered
