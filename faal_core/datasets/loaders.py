"""Data sets and data loaders of PyTorch: collected once into tensors, because an audit reads its images many times.

Audits need the same images in the same order in each pass. Random transforms, random order and images that a transform
normalised are refused, or avoided and reported, by name.
"""

import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset, RandomSampler, SequentialSampler

from faal_core.errors import DatasetInvalid

_COMPARED = 3  # images of a data set that are read twice: a random transform changes most of them
_BATCH = 256  # images that are collected at a time from a data set without a loader
_IMAGE_KEYS, _LABEL_KEYS = ("image", "images", "img", "pixel_values", "x"), ("label", "labels", "fine_label", "y")


class DataLoaderWarning(UserWarning):
    """A data loader was read in another way than it would be in training."""


def collect(data: Dataset[Any] | DataLoader[Any]) -> tuple[Tensor, Tensor]:
    """Return all images and labels of a data set or data loader, in the order of the data set.

    Items are pairs of image and label, or mappings with such keys as `image` and `label`. Images are tensors `c h w`, arrays
    or Pillow images. The caller checks ranges.

    Raises: DatasetInvalid where two passes differ, items have another form, or images have several shapes.
    """
    dataset: Dataset[Any] = data.dataset if isinstance(data, DataLoader) else data
    if not isinstance(dataset, IterableDataset):
        _require_fixed_images(dataset)
    batches = _iterate_loader(data) if isinstance(data, DataLoader) else _iterate_items(dataset)
    images, labels = list[Tensor](), list[Tensor]()
    for batch_images, batch_labels in batches:
        if images and batch_images.shape[1:] != images[0].shape[1:]:
            raise DatasetInvalid(
                f"Images have several shapes: {tuple(images[0].shape[1:])} and {tuple(batch_images.shape[1:])}. Resize and "
                "crop them in the data set's transform."
            )
        images.append(_compress(batch_images))
        labels.append(batch_labels)
    if not images:
        raise DatasetInvalid("The data set has no images.")
    if len({batch.dtype for batch in images}) > 1:
        images = [batch / 255 if batch.dtype == torch.uint8 else batch for batch in images]
    return torch.cat(images), torch.cat(labels)


def _compress(images: Tensor) -> Tensor:
    """Return images that are levels divided by 255, as `ToTensor` makes them, as uint8: a quarter of the memory, no loss."""
    if images.dtype != torch.float32:
        return images
    levels = (images * 255).round().clamp(0, 255).to(torch.uint8)
    return levels if torch.equal(levels / 255, images) else images


def _require_fixed_images(dataset: Dataset[Any]) -> None:
    """Check that some items are the same when they are read again. Raises: DatasetInvalid."""
    for row in range(min(_COMPARED, len(dataset))):  # type: ignore[arg-type]  # a data set without a length is iterable
        first, second = (_split(dataset[row])[0] for _ in range(2))
        if first.shape != second.shape or not torch.equal(first, second):
            raise DatasetInvalid(
                f"Image {row} differs between two passes: the data set's transform is random. An audit needs fixed images. "
                "Leave out random crops, flips and noise."
            )


def _iterate_items(dataset: Dataset[Any]) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the items of a data set in batches. Raises: DatasetInvalid."""
    items: Iterable[Any] = (
        dataset if isinstance(dataset, IterableDataset) else (dataset[row] for row in range(len(dataset)))  # type: ignore[arg-type]
    )
    pairs = list[tuple[Tensor, Tensor]]()
    for item in items:
        pairs.append(_split(item))
        if len(pairs) == _BATCH or (len(pairs) > 1 and pairs[-1][0].shape != pairs[0][0].shape):
            yield from _stack(pairs)
            pairs = []
    yield from _stack(pairs)


def _stack(pairs: Sequence[tuple[Tensor, Tensor]]) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the pairs as one batch; two where the last image has another shape than the others."""
    same = [pair for pair in pairs if pair[0].shape == pairs[0][0].shape]
    for group in (same, pairs[len(same) :]):
        if group:
            yield torch.stack([image for image, _ in group]), torch.stack([label for _, label in group])


def _iterate_loader(loader: DataLoader[Any]) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the batches of a loader; one that shuffles is read in the order of its data set instead.

    Raises: DatasetInvalid where two passes begin with different batches.
    """
    if isinstance(loader.sampler, RandomSampler) and not loader.sampler.replacement and loader.batch_size is not None:
        warnings.warn(
            "The DataLoader shuffles. Its images are read in the order of its data set, so that two audits compare.",
            DataLoaderWarning,
            stacklevel=5,
        )
        loader = DataLoader(
            loader.dataset, loader.batch_size, num_workers=loader.num_workers, collate_fn=loader.collate_fn
        )
    elif not isinstance(loader.sampler, SequentialSampler):
        _require_fixed_order(loader)
    if loader.drop_last:
        warnings.warn(
            "The DataLoader has drop_last: the images of an incomplete last batch are not audited.",
            DataLoaderWarning,
            stacklevel=5,
        )
    for batch in loader:
        yield _split(batch)


def _require_fixed_order(loader: DataLoader[Any]) -> None:
    """Check that two passes begin with the same batch. Raises: DatasetInvalid."""
    (first, labels), (second, other_labels) = (_split(next(iter(loader))) for _ in range(2))
    if first.shape != second.shape or not (torch.equal(first, second) and torch.equal(labels, other_labels)):
        raise DatasetInvalid(
            "Two passes over the DataLoader begin with different images: it is shuffled between passes. Pass one with "
            "shuffle=False and without a random sampler."
        )


def _split(item: Any) -> tuple[Tensor, Tensor]:  # noqa: ANN401 - whatever a data set returns
    """Return image and label of an item or a batch as tensors. Raises: DatasetInvalid."""
    if isinstance(item, Mapping):
        keys = [next((key for key in keys if key in item), None) for keys in (_IMAGE_KEYS, _LABEL_KEYS)]
        if None in keys:
            raise DatasetInvalid(
                f"An item of the data set has the keys {', '.join(map(str, item))}; it needs image and label."
            )
        image, label = (item[key] for key in keys)
    elif isinstance(item, Sequence) and len(item) == 2:
        image, label = item
    else:
        raise DatasetInvalid(
            f"An item of the data set is a {type(item).__name__}; it must be a pair of image and label."
        )
    return _convert_image(image), torch.as_tensor(label)


def _convert_image(image: Any) -> Tensor:  # noqa: ANN401 - a tensor, an array or a Pillow image
    """Return the image as a tensor; the channels of an array or of a Pillow image are moved first."""
    if isinstance(image, Tensor):
        return image
    array = np.array(image)
    tensor = torch.from_numpy(array)
    return tensor.unsqueeze(0) if array.ndim == 2 else tensor.movedim(-1, 0) if array.ndim == 3 else tensor
