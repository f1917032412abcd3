"""One part of a data set as two tensors; the images may be in a mapped file."""

import hashlib
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from faal_core.catalog import Augmentation
from faal_core.classifier import Images, Labels
from faal_core.datasets.grouping import Grouping
from faal_core.datasets.mapped_images import FileMapping, iterate_pieces, take_rows
from faal_core.datasets.names import require_names
from faal_core.datasets.pixel_range import clip_to_unit_range
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
        groups: columns with a group for each image; audits report by group, training uses the column that its method names.
        augmentation: the random changes of training images that preserve their labels.
        class_order: how the order of the classes was decided.
        preparation: one sentence for each step from the stored images to these.
        mapping: the mapping of the file that holds the images; None where they are in memory. Images in a file are read-only.
        rows: row numbers of these images in the whole part, `n`, int64; None where these are all of it.

    Raises: DatasetInvalid where one of these rules is broken; the message names the first offender.
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
    mapping: FileMapping | None = field(default=None, compare=False, repr=False)
    rows: Tensor | None = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        subject = f"{self.name} ({self.part})"
        if self.images.ndim != 4 or not 1 <= self.images.shape[1] <= 4 or 0 in self.images.shape[2:]:
            raise DatasetInvalid(
                f"{subject}: images are n × c × h × w with 1 to 4 channels, not {tuple(self.images.shape)}"
            )
        if len(self.images) != len(self.labels) or not len(self.labels):
            raise DatasetInvalid(
                f"{subject}: {len(self.images)} images and {len(self.labels)} labels; each image needs one label"
            )
        if self.images.dtype not in (torch.uint8, torch.float32):
            raise DatasetInvalid(f"{subject}: images are uint8 or float32, not {self.images.dtype}")
        if self.images.dtype == torch.float32:
            clipped = clip_to_unit_range(self.images, subject, self.mapping)
            object.__setattr__(self, "images", clipped.images)
            object.__setattr__(self, "mapping", clipped.mapping)
            object.__setattr__(self, "preparation", (*self.preparation, *clipped.notes))
        if len(set(self.class_names)) < len(self.class_names):
            raise DatasetInvalid(f"{subject}: two classes have the same name among {sorted(self.class_names)[:10]}")
        require_names(f"{subject}: a class", self.class_names)
        for grouping in self.groups:
            if len(grouping.members) != len(self):
                raise DatasetInvalid(
                    f"{subject}: the column {grouping.column!r} has groups for {len(grouping.members)} of {len(self)} images"
                )
        low_label, high_label = int(self.labels.min()), int(self.labels.max())
        if low_label < 0 or high_label >= len(self.class_names):
            offender = low_label if low_label < 0 else high_label
            raise DatasetInvalid(f"{subject}: label {offender} is not in 0…{len(self.class_names) - 1}")

    def __len__(self) -> int:
        return len(self.labels)

    @cached_property
    def counts(self) -> np.ndarray:
        """Return the number of images of each class, int64 of length k."""
        return np.bincount(self.labels.numpy(), minlength=len(self.class_names))

    @property
    def classes_without_images(self) -> tuple[str, ...]:
        """Return the names of the classes that have no image."""
        return tuple(self.class_names[c] for c in np.flatnonzero(self.counts == 0))

    @cached_property
    def sha256(self) -> str:
        """Return the digest of shape, levels and labels: the same images in the same order give the same digest."""
        digest = hashlib.sha256(str((tuple(self.images.shape), str(self.images.dtype))).encode())
        for piece in self.pieces():
            digest.update(piece.data)
        digest.update(self.labels.numpy().astype("<i8").tobytes())
        return digest.hexdigest()

    def pieces(self) -> Iterator[np.ndarray]:
        """Yield the images in order, some at a time: n × c × h × w, contiguous. A piece is valid until the next one."""
        for piece in iterate_pieces(self.images, self.mapping):
            yield piece.contiguous().numpy()

    def digest(self, row: int) -> str:
        """Return the SHA-256 of one image's pixels, in its own levels."""
        return hashlib.sha256(self.images[row].contiguous().numpy().tobytes()).hexdigest()

    def pixels(self, rows: Tensor | slice, device: torch.device) -> Images:
        """Return those images on `device`, float32 in [0, 1]."""
        images = self.images[rows].contiguous().to(device)
        if self.mapping:
            self.mapping.release()
        if images.dtype != torch.uint8:
            return images
        highest = torch.tensor(255.0, device=device)  # by a plain number, a GPU multiplies with the rounded 1 / 255
        return images.float() / highest

    def take(self, rows: Tensor) -> "LabelledImages":
        """Return only those rows, in that order."""
        groups = tuple(grouping.take(rows.numpy()) for grouping in self.groups)
        taken = take_rows(self.images, self.mapping, rows)
        places = rows if self.rows is None else self.rows[rows]
        return replace(
            self, images=taken.images, mapping=taken.mapping, labels=self.labels[rows], groups=groups, rows=places
        )

    def stratified(self, count: int, seed: int) -> Tensor:
        """Draw `count` row numbers, ascending, in proportion to the classes; every class that has images gets at least one.

        Raises: DatasetInvalid when `count` exceeds the number of images or is below one for each class.
        """
        classes = int((self.counts > 0).sum())
        if not classes <= count <= len(self):
            raise DatasetInvalid(
                f"{self.name} ({self.part}): {count} images were requested; {classes} to {len(self)} are possible"
            )
        return draw_stratified(self.labels, self.counts, count, seed)

    def summarise(self) -> DatasetSummary:
        """Return the summary for reports."""
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


def draw_stratified(labels: Labels, counts: np.ndarray, count: int, seed: int) -> Tensor:
    """Return `count` indices into `labels`, ascending, in proportion to the classes; every class that occurs gets at least one.

    Args:
        counts: the number of labels of each class, `k`. `count` must be between the number of classes that occur and their sum.
    """
    total = int(counts.sum())
    allocation = np.maximum(np.minimum(counts, 1), np.floor(counts * (count / total))).astype(int)
    remainders = counts * (count / total) - allocation
    for c in np.argsort(-remainders, kind="stable")[: max(0, count - allocation.sum())]:
        allocation[c] += 1
    if (excess := int(allocation.sum()) - count) > 0:
        allocation = _lower_allocation(allocation, excess)
    generator = torch.Generator().manual_seed(seed)
    rows = []
    for members, size in zip(labels.argsort(stable=True).split(counts.tolist()), allocation, strict=True):
        rows.append(members[torch.randperm(len(members), generator=generator)[: int(size)]])
    return torch.cat(rows).sort().values


def _lower_allocation(allocation: np.ndarray, excess: int) -> np.ndarray:
    """Return the allocation reduced by `excess` in total; each unit comes from the first of the largest entries."""
    target = int(allocation.sum()) - excess
    level = bisect_left(
        range(int(allocation.max())), target, key=lambda height: int(np.minimum(allocation, height).sum())
    )
    lowered = np.minimum(allocation, level)
    lowered[np.flatnonzero(lowered == level)[: int(lowered.sum()) - target]] -= 1
    return lowered
