"""Data sets and data loaders of PyTorch: collected once into tensors, because an audit reads its images many times.

Audits need the same images in the same order in each pass. A loader that
shuffles all images is read in the order of its data set, with a warning. Other random samplers are refused. Some images are
read twice, and random transforms are refused if the two differ.
"""

import inspect
import random
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import BatchSampler, DataLoader, IterableDataset

from faal_core.datasets.arrays import compress
from faal_core.datasets.image_file import Decoder
from faal_core.datasets.items import read_batch, read_item, require_one_shape
from faal_core.errors import DatasetInvalid

_COMPARED = 8  # images of a data set that are read twice, spread over it: a random transform changes most of them
_BATCH = 256  # images that are collected at a time from a data set without a loader


class DataLoaderWarning(UserWarning):
    """A data loader was read in another way than it would be in training."""


def collect(data: Any, decoder: Decoder | None = None) -> tuple[Tensor, Tensor]:  # noqa: ANN401 - of several libraries
    """Return all images and labels of a data set or data loader, in the order of the data set.

    Items are pairs of image and label, or mappings with such keys as `image` and `label`. Images are tensors `c h w`, arrays
    or Pillow images. The caller checks ranges. The caller's random numbers are not used up.

    Args:
        data: a Dataset, an IterableDataset, a DataLoader, or an object with a length and items.
        decoder: converts Pillow images and counts their conversions.
    Raises: DatasetInvalid where two passes differ, items have another form, or images have several shapes.
    """
    decoder = decoder or Decoder()
    with _seeded(0):
        if isinstance(data, DataLoader):
            data = _order_loader(data)
        elif not isinstance(data, IterableDataset):
            _require_fixed_images(data, range(_measure(data)))
        images, labels = list[Tensor](), list[Tensor]()
        first: tuple[Tensor, Tensor] | None = None
        for batch in _iterate_batches(data, decoder):
            first = first or batch
            require_one_shape(first[0].shape[1:], batch[0].shape[1:])
            images.append(compress(batch[0]))
            labels.append(batch[1])
    if first is None:
        raise DatasetInvalid("The data set has no images.")
    if isinstance(data, DataLoader | IterableDataset):
        _require_same_start(data, first)
    if len({batch.dtype for batch in images}) > 1:
        images = [batch / 255 if batch.dtype == torch.uint8 else batch for batch in images]
    return torch.cat(images), torch.cat(labels)


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Seed the generators of Python, NumPy and PyTorch, and restore their states at the end of the context."""
    python_state, numpy_state = random.getstate(), np.random.get_state()  # noqa: NPY002 - transforms use it
    with torch.random.fork_rng(devices=[]):
        random.seed(seed)
        np.random.seed(seed)  # noqa: NPY002 - as above
        torch.default_generator.manual_seed(seed)
        try:
            yield
        finally:
            random.setstate(python_state)
            np.random.set_state(numpy_state)  # noqa: NPY002 - as above


def _measure(dataset: Any) -> int:  # noqa: ANN401 - as above
    """Return the number of items. Raises: DatasetInvalid for a data set without a length."""
    try:
        return len(dataset)
    except (TypeError, NotImplementedError):
        raise DatasetInvalid(
            f"The data set {type(dataset).__name__} has no length. Give it __len__, or make it an IterableDataset."
        ) from None


def _iterate_batches(data: Any, decoder: Decoder) -> Iterator[tuple[Tensor, Tensor]]:  # noqa: ANN401 - as above
    """Yield images and labels in batches. Raises: DatasetInvalid."""
    if isinstance(data, DataLoader):
        for batch in data:
            yield read_batch(batch, decoder)
        return
    items: Iterable[Any] = data if isinstance(data, IterableDataset) else (data[row] for row in range(len(data)))
    pairs = list[tuple[Tensor, Tensor]]()
    for item in items:
        pairs.append(read_item(item, decoder))
        require_one_shape(pairs[0][0].shape, pairs[-1][0].shape)
        if len(pairs) == _BATCH:
            yield _stack(pairs)
            pairs = []
    if pairs:
        yield _stack(pairs)


def _stack(pairs: Sequence[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """Return pairs of image and label as one batch."""
    return torch.stack([image for image, _ in pairs]), torch.stack([label for _, label in pairs])


def _differ(first: tuple[Tensor, Tensor], second: tuple[Tensor, Tensor]) -> bool:
    """Return whether images or labels differ."""
    return any(a.shape != b.shape or not torch.equal(a, b) for a, b in zip(first, second, strict=True))


def _require_fixed_images(dataset: Any, rows: Sequence[Any]) -> None:  # noqa: ANN401 - as above
    """Check that some of the rows are the same when they are read with other random numbers. Raises: DatasetInvalid."""
    places = sorted({place * (len(rows) - 1) // (_COMPARED - 1) for place in range(_COMPARED)}) if rows else []
    passes = []
    for seed in (0, 1):
        with _seeded(seed):
            passes.append([read_item(dataset[rows[place]], Decoder()) for place in places])
    for place, first, second in zip(places, *passes, strict=True):
        if _differ(first, second):
            raise DatasetInvalid(
                f"Image {rows[place]} differs between two passes: the data set's transform is random. An audit needs fixed "
                "images. Leave out random crops, flips and noise."
            )


def _require_same_start(data: Any, first: tuple[Tensor, Tensor]) -> None:  # noqa: ANN401 - as above
    """Check that a second pass begins with the same batch; a stream that can be read only once has none.

    Raises: DatasetInvalid.
    """
    with _seeded(1):
        second = next(_iterate_batches(data, Decoder()), None)
    if second is not None and _differ(first, second):
        raise DatasetInvalid(
            "Two passes over the data begin with different images: it is shuffled between passes, or its transform is random. "
            "An audit needs fixed images in a fixed order."
        )


def _order_loader(loader: DataLoader[Any]) -> DataLoader[Any]:
    """Return the loader; for one that shuffles all its images, one that reads them in the order of the data set.

    Raises: DatasetInvalid for another random order, for random transforms and for a loader without batches.
    """
    if loader.batch_sampler is None:
        raise DatasetInvalid("The DataLoader has batch_size=None and makes no batches. Pass its data set instead.")
    if isinstance(loader.dataset, IterableDataset):
        drops_images = loader.drop_last
    else:
        count, batches, passes = _measure(loader.dataset), loader.batch_sampler, list[list[Any]]()
        for seed in (0, 1):
            with _seeded(seed):
                passes.append([row for batch in batches for row in batch])
        _require_fixed_images(loader.dataset, passes[0])
        sampler = batches.sampler if isinstance(batches, BatchSampler) else batches
        sampled = list(sampler) if isinstance(batches, BatchSampler) else passes[0]
        if passes[0] != passes[1]:
            return _read_in_order(loader, sampler, is_complete=sorted(sampled) == list(range(count)))
        drops_images = len(passes[0]) < len(sampled)
    if drops_images:
        _warn_caller(
            "The DataLoader has drop_last, so the images of an incomplete last batch are left out. Set drop_last=False."
        )
    return loader


def _read_in_order(loader: DataLoader[Any], sampler: object, *, is_complete: bool) -> DataLoader[Any]:
    """Return a loader of the same batches in the order of the data set, with a warning.

    Args:
        is_complete: whether the sampler draws each image exactly once.
    Raises: DatasetInvalid where it does not.
    """
    if not is_complete:
        raise DatasetInvalid(
            f"The DataLoader draws images at random ({type(sampler).__name__}), not each image once. An audit needs fixed "
            "images. Pass a DataLoader with shuffle=False, or a Subset of the data set."
        )
    _warn_caller(
        "The DataLoader shuffles. All images of its data set are read, in the order of the data set, so that two audits compare."
    )
    batch_size = getattr(loader.batch_sampler, "batch_size", _BATCH)
    return DataLoader(loader.dataset, batch_size, num_workers=loader.num_workers, collate_fn=loader.collate_fn)


def _warn_caller(message: str) -> None:
    """Issue a DataLoaderWarning that names the line that called the library."""
    level, frame = 1, inspect.currentframe()
    while frame and frame.f_globals.get("__name__", "").startswith("faal_core."):
        level, frame = level + 1, frame.f_back
    warnings.warn(message, DataLoaderWarning, stacklevel=level)
