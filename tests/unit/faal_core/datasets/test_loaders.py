"""Data sets and loaders of PyTorch: read once, in order, and refused where two passes differ."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset, SubsetRandomSampler, TensorDataset

import faal_core as faal
from faal_core.datasets.loaders import DataLoaderWarning, collect
from faal_core.errors import DatasetInvalid
from faal_core.torchvision_import import torchvision
from tests.linear_classifier import build_linear_classifier

LEVELS = torch.randint(0, 256, (40, 3, 8, 8), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
LABELS = torch.arange(40) % 4
IMAGES = LEVELS / 255


class Items(Dataset[Any]):
    """Returns what a function makes of each image and label."""

    def __init__(self, make: Callable[[Tensor, int], Any], classes: Sequence[str] = ()) -> None:
        self.make, self.classes = make, classes

    def __len__(self) -> int:
        return len(LABELS)

    def __getitem__(self, row: int) -> Any:
        return self.make(LEVELS[row], int(LABELS[row]))


class Stream(IterableDataset[Any]):
    """Yields images and labels one after the other."""

    def __iter__(self) -> Iterator[Any]:
        yield from zip(IMAGES, LABELS, strict=True)


def as_pillow(levels: Tensor) -> Image.Image:
    """Return the image as Pillow has it."""
    return Image.fromarray(levels.permute(1, 2, 0).numpy())


TO_TENSOR = torchvision.transforms.ToTensor()


@pytest.mark.parametrize(
    "data",
    [
        TensorDataset(IMAGES, LABELS),
        Items(lambda levels, label: (as_pillow(levels), label)),
        Items(lambda levels, label: (TO_TENSOR(as_pillow(levels)), label)),
        Items(lambda levels, label: {"image": levels.permute(1, 2, 0).numpy(), "label": label}),
        Items(lambda levels, label: [levels, np.int32(label)]),
        Stream(),
        DataLoader(TensorDataset(IMAGES, LABELS), batch_size=7),
        DataLoader(Items(lambda levels, label: {"pixel_values": levels, "labels": label}), batch_size=16),
    ],
    ids=["tensors", "Pillow", "ToTensor", "mapping of arrays", "lists", "stream", "loader", "loader of mappings"],
)
def test_items_of_each_kind_become_levels(data: Any) -> None:
    """Images that are whole levels are kept as uint8, with the labels in the data set's order."""
    images, labels = collect(data)
    assert images.dtype == torch.uint8
    assert torch.equal(images, LEVELS)
    assert torch.equal(labels, LABELS)


def test_floats_that_are_no_levels_stay_floats() -> None:
    """Where one batch has values between levels, all images are floats of the same pixels."""
    mixed = IMAGES.clone()
    mixed[-1] *= 0.999
    images, _ = collect(DataLoader(TensorDataset(mixed, LABELS), batch_size=8))
    assert images.dtype == torch.float32
    assert torch.equal(images, mixed)


def test_a_shuffling_loader_is_read_in_the_order_of_its_data_set() -> None:
    """A warning says so, and the images are those of the data set in order."""
    with pytest.warns(DataLoaderWarning, match="shuffles"):
        images, labels = collect(DataLoader(TensorDataset(LEVELS, LABELS), batch_size=9, shuffle=True))
    assert torch.equal(images, LEVELS)
    assert torch.equal(labels, LABELS)


def test_a_loader_that_drops_images_says_so() -> None:
    """drop_last leaves out images, which a warning reports."""
    with pytest.warns(DataLoaderWarning, match="drop_last"):
        images, _ = collect(DataLoader(TensorDataset(LEVELS, LABELS), batch_size=9, drop_last=True))
    assert len(images) == 36


def noisy(levels: Tensor, label: int) -> tuple[Tensor, int]:
    """Return the image with fresh noise."""
    return (levels / 255 + 0.1 * torch.rand(3, 8, 8)).clamp(0, 1), label


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (Items(noisy), "differs between two passes: the data set's transform is random"),
        (DataLoader(Items(noisy), batch_size=4), "transform is random"),
        (
            DataLoader(TensorDataset(LEVELS, LABELS), 4, sampler=SubsetRandomSampler(range(40))),
            "shuffled between passes",
        ),
        (Items(lambda levels, label: levels), "must be a pair"),
        (Items(lambda levels, label: (levels, label, 0)), "must be a pair"),
        (Items(lambda levels, label: {"picture": levels, "label": label}), "keys picture, label"),
        (Items(lambda levels, label: (levels[:, : 4 + label], label)), "several shapes"),
        (TensorDataset(LEVELS[:0], LABELS[:0]), "no images"),
    ],
    ids=["noise", "noise in a loader", "random subset", "no label", "three", "keys", "shapes", "empty"],
)
def test_a_data_set_that_no_audit_can_use_is_refused_by_name(data: Any, message: str) -> None:
    """Random transforms, random order and items of another form have messages that say what to change."""
    with pytest.raises(DatasetInvalid, match=message):
        collect(data)


def test_a_loader_of_ones_own_audits_in_five_lines() -> None:
    """A loader with transforms gives the outcomes of its tensors, and the class names of its data set."""
    classifier = faal.Classifier.wrap(build_linear_classifier(4, (3, 8, 8)).backbone, num_classes=4)
    data = Items(lambda levels, label: (TO_TENSOR(as_pillow(levels)), label), ["ant", "bee", "cat", "dog"])
    loader = DataLoader(data, batch_size=16, num_workers=0)
    result = faal.audit(classifier, loader, epsilon="1/255", attacks="quick", progress=False)
    tensors = faal.audit(classifier, LEVELS, LABELS, epsilon="1/255", attacks="quick", progress=False)
    assert np.array_equal(result.evaluation.broken_by, tensors.evaluation.broken_by)
    assert result.report.dataset.class_names == ("ant", "bee", "cat", "dog")
    assert result.report.dataset.name == "Items"


def test_a_loader_that_normalises_is_refused_by_name() -> None:
    """The classifier normalises itself; a transform that does it, too, is named in the message."""
    normalise = torchvision.transforms.Normalize((0.5,) * 3, (0.25,) * 3)
    data = Items(lambda levels, label: (normalise(levels / 255), label))
    classifier = faal.Classifier.wrap(build_linear_classifier(4, (3, 8, 8)).backbone, num_classes=4)
    with pytest.raises(
        DatasetInvalid, match=r"look normalised: leave out the normalisation \(such as transforms.Normalize\)"
    ):
        faal.audit(classifier, DataLoader(data, batch_size=8), epsilon=0.1, progress=False)
