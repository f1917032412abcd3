"""Data sets and loaders of PyTorch: read once, in order, and refused where two passes differ."""

import random
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    IterableDataset,
    RandomSampler,
    SubsetRandomSampler,
    TensorDataset,
    WeightedRandomSampler,
)

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


def as_transparent(levels: Tensor) -> Image.Image:
    """Return the image with an alpha channel that is not opaque."""
    image = as_pillow(levels)
    image.putalpha(128)
    return image


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


TENSORS = TensorDataset(LEVELS, LABELS)


class RandomBatches:
    """Yields two batches with all rows in a random order."""

    def __iter__(self) -> Iterator[list[int]]:
        yield from torch.randperm(40).view(2, 20).tolist()

    def __len__(self) -> int:
        return 2


@pytest.mark.parametrize(
    "loader",
    [
        DataLoader(TENSORS, batch_size=9, shuffle=True),
        DataLoader(TENSORS, batch_size=9, shuffle=True, drop_last=True),
        DataLoader(TENSORS, batch_sampler=BatchSampler(RandomSampler(TENSORS), 9, drop_last=True)),
        DataLoader(TENSORS, batch_sampler=RandomBatches()),
        DataLoader(TENSORS, batch_size=9, sampler=SubsetRandomSampler(range(40))),
    ],
    ids=["shuffle", "drop_last", "batch sampler", "batch sampler of one's own", "random permutation"],
)
def test_a_shuffling_loader_is_read_in_the_order_of_its_data_set(loader: DataLoader[Any]) -> None:
    """A warning says so, and the images are all those of the data set in order."""
    with pytest.warns(DataLoaderWarning, match="shuffles. All images"):
        images, labels = collect(loader)
    assert torch.equal(images, LEVELS)
    assert torch.equal(labels, LABELS)


def test_a_loader_that_drops_images_says_so() -> None:
    """drop_last leaves out images, which a warning reports."""
    with pytest.warns(DataLoaderWarning, match="drop_last"):
        images, _ = collect(DataLoader(TensorDataset(LEVELS, LABELS), batch_size=9, drop_last=True))
    assert len(images) == 36


def test_a_loader_whose_last_batch_is_complete_drops_nothing() -> None:
    """drop_last without an incomplete batch needs no warning."""
    images, _ = collect(DataLoader(TENSORS, batch_size=8, drop_last=True))
    assert len(images) == 40


class OneShot(IterableDataset[Any]):
    """Yields images and labels in its first pass alone."""

    def __init__(self) -> None:
        self.items = iter(zip(IMAGES, LABELS, strict=True))

    def __iter__(self) -> Iterator[Any]:
        yield from self.items


@pytest.mark.parametrize("wrap", [lambda stream: stream, lambda stream: DataLoader(stream, batch_size=3)])
def test_a_stream_that_can_be_read_once_loses_no_items(wrap: Callable[[Any], Any]) -> None:
    """A second pass that gives nothing is accepted."""
    images, labels = collect(wrap(OneShot()))
    assert torch.equal(images, LEVELS)
    assert torch.equal(labels, LABELS)


class RandomStream(IterableDataset[Any]):
    """Yields images in another order in each pass."""

    def __iter__(self) -> Iterator[Any]:
        yield from ((LEVELS[row], LABELS[row]) for row in torch.randperm(40))


def to_arrays(pairs: list[Any]) -> tuple[np.ndarray, np.ndarray]:
    """Return a batch as arrays."""
    return np.stack([np.asarray(image) for image, _ in pairs]), np.array([int(label) for _, label in pairs])


@pytest.mark.parametrize(("channels", "layout"), [(1, "h w"), (1, "c h w"), (1, "h w c"), (3, "c h w"), (3, "h w c")])
@pytest.mark.parametrize("batch_size", [None, 7, 8])
def test_arrays_of_each_layout_have_the_same_pixels(channels: int, layout: str, batch_size: int | None) -> None:
    """Items and batches keep their axes, even where a batch has as many images as an image has rows."""
    layouts: dict[str, Callable[[Tensor], Tensor]] = {
        "h w": lambda image: image[0],
        "c h w": lambda image: image,
        "h w c": lambda image: image.permute(1, 2, 0),
    }
    items = Items(lambda levels, label: (layouts[layout](levels[:channels]).numpy(), label))
    images, labels = collect(DataLoader(items, batch_size, collate_fn=to_arrays) if batch_size else items)
    assert torch.equal(images, LEVELS[:, :channels])
    assert torch.equal(labels, LABELS)


@pytest.mark.parametrize(
    ("mode", "expected"), [("L", "L"), ("LA", "L"), ("RGBA", "RGB"), ("P", "RGB"), ("CMYK", "RGB"), ("1", "L")]
)
def test_pillow_images_of_other_modes_are_converted_as_files_are(mode: str, expected: str) -> None:
    """Palettes and opaque alpha channels become grey levels or RGB, never channels of their own."""
    items = Items(lambda levels, label: (as_pillow(levels).convert(mode), label))
    images, _ = collect(items)
    converted = [TO_TENSOR(as_pillow(levels).convert(mode).convert(expected)) for levels in LEVELS]
    assert torch.equal(images / 255, torch.stack(converted))


def test_an_audit_leaves_the_random_numbers_of_its_caller() -> None:
    """Data sets that draw random numbers, and loaders, do not advance the caller's generators."""

    def draw(levels: Tensor, label: int) -> tuple[Tensor, int]:
        random.random(), np.random.rand(), torch.rand(1)  # noqa: NPY002 - as a transform does
        return levels, label

    def state() -> tuple[Any, ...]:
        return random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()  # noqa: NPY002

    draw(LEVELS[0], 0)
    before = state()
    collect(DataLoader(Items(draw), batch_size=16))
    collect(Stream())
    assert state() == before


@pytest.mark.parametrize("wrap", [lambda items: items, lambda items: DataLoader(items, batch_size=4)])
def test_a_transform_that_changes_few_images_is_refused(wrap: Callable[[Any], Any]) -> None:
    """Images all over the data set are read twice, also beyond the first batch of a loader."""
    items = Items(lambda levels, label: noisy(levels, label) if torch.equal(levels, LEVELS[22]) else (levels, label))
    with pytest.raises(DatasetInvalid, match="Image 22 differs between two passes: the data set's transform is random"):
        collect(wrap(items))


def test_a_warning_names_the_line_of_the_caller() -> None:
    """The warning's file is the one that calls the audit."""
    classifier = faal.Classifier.wrap(build_linear_classifier(4, (3, 8, 8)).backbone, num_classes=4)
    with pytest.warns(DataLoaderWarning) as caught:
        faal.audit(classifier, DataLoader(TENSORS, 8, shuffle=True), epsilon="1/255", attacks="quick", progress=False)
    assert [warning.filename for warning in caught] == [__file__]


class NoLength(Dataset[Any]):
    """Has items and no length."""

    def __getitem__(self, row: int) -> Any:
        return LEVELS[row], LABELS[row]


def noisy(levels: Tensor, label: int) -> tuple[Tensor, int]:
    """Return the image with fresh noise."""
    return (levels / 255 + 0.1 * torch.rand(3, 8, 8)).clamp(0, 1), label


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (Items(noisy), "differs between two passes: the data set's transform is random"),
        (DataLoader(Items(noisy), batch_size=4), "transform is random"),
        (
            DataLoader(TensorDataset(LEVELS, LABELS), 4, sampler=SubsetRandomSampler(range(20))),
            r"at random \(SubsetRandomSampler\), not each image once",
        ),
        (Items(lambda levels, label: levels), "must be a pair"),
        (Items(lambda levels, label: (levels, label, 0)), "must be a pair"),
        (Items(lambda levels, label: {"picture": levels, "label": label}), "keys picture, label"),
        (Items(lambda levels, label: (levels[:, : 4 + label], label)), "several shapes"),
        (TensorDataset(LEVELS[:0], LABELS[:0]), "no images"),
        (
            DataLoader(TENSORS, 8, sampler=RandomSampler(TENSORS, num_samples=10)),
            r"\(RandomSampler\), not each image once",
        ),
        (DataLoader(TENSORS, 8, sampler=WeightedRandomSampler([1.0] * 40, 40)), r"\(WeightedRandomSampler\)"),
        (RandomStream(), "begin with different images"),
        (DataLoader(RandomStream(), batch_size=8), "begin with different images"),
        (DataLoader(TENSORS, batch_size=None), "batch_size=None"),
        (NoLength(), "NoLength has no length"),
        (DataLoader(NoLength(), batch_size=4), "NoLength has no length"),
        (Items(lambda levels, label: (levels, "cat")), "label of the data set is 'cat'"),
        (Items(lambda levels, label: (levels, None)), "label of the data set is None"),
        (Items(lambda levels, label: (Image.fromarray(levels[0].numpy().astype(np.uint16)), label)), "mode I;16"),
        (Items(lambda levels, label: (as_transparent(levels), label)), "some of its pixels are transparent"),
    ],
    ids=[
        *(
            "noise",
            "noise in a loader",
            "random subset",
            "no label",
            "three",
            "keys",
            "shapes",
            "empty",
            "few at random",
        ),
        *("weighted", "random stream", "loader of a random stream", "no batches", "no length", "loader without length"),
        *("text", "None", "16 bits", "transparent"),
    ],
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
