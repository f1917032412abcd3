"""Decode the image files of a part, one after the other, into memory or into the cache."""

from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch

from faal_core.datasets.image_cache import ImageCache, compute_key
from faal_core.datasets.image_file import Decoder, Resizing
from faal_core.datasets.image_writers import ImageWriter, MemoryWriter
from faal_core.datasets.mapped_images import ImageArray
from faal_core.errors import DatasetInvalid
from faal_core.progress import Progress

_MAX_THREADS = 8  # each may hold a photograph of 128 MiB


@dataclass(frozen=True)
class EncodedImages:
    """The image files of a part.

    Args:
        title: the data set's name, for messages.
        count: how many there are, at least one.
        iterate: yields the name and the content of each file, in order.
        stamp: returns what changes when a file does, for the key of the cache.
    """

    title: str
    count: int
    iterate: Callable[[], Iterable[tuple[str, bytes]]]
    stamp: Callable[[], object]


def decode_images(
    encoded: EncodedImages, resizing: Resizing, cache: ImageCache | None, progress: Progress
) -> ImageArray:
    """Return the images in order, uint8, and notes on their conversions.

    Grey images beside RGB ones get three equal channels. Images that the cache holds are not decoded again.

    Raises: DatasetInvalid for an image that cannot be decoded, or whose size differs from the first one's.
    """
    if cache:
        key = compute_key(resizing, encoded.count, encoded.stamp())
        if stored := cache.find(key, progress):
            return stored
        first = Decoder(resizing).decode(*next(iter(encoded.iterate())))
        if first.nbytes * encoded.count >= cache.min_bytes:
            progress.stage(f"decoding {encoded.title} into {cache.folder}", encoded.count)
            threads = min(torch.get_num_threads(), _MAX_THREADS)
            return cache.store(key, lambda writer: _decode_into(writer, encoded, resizing, progress, threads), progress)
    progress.stage(f"decoding {encoded.title}", encoded.count)
    writer = MemoryWriter()
    notes = _decode_into(writer, encoded, resizing, progress, 1)
    return ImageArray(writer.images, notes=notes)


def _decode_into(
    writer: ImageWriter, encoded: EncodedImages, resizing: Resizing, progress: Progress, threads: int
) -> tuple[str, ...]:
    """Append the images to the writer, and return the notes on them. Raises: DatasetInvalid."""
    decoder, grey, channels = Decoder(resizing), 0, 0
    first_name, first = "", np.empty((0, 0, 0), np.uint8)
    for name, image, conversions in _decode_each(encoded, resizing, threads):
        decoder.conversions += conversions
        if not channels:
            first_name, first, channels = name, image, len(image)
            writer.begin(encoded.count, image)
        if image.shape[1:] != first.shape[1:]:
            raise DatasetInvalid(
                f"{name} is {_describe_size(image)}, {first_name} is {_describe_size(first)}; all must have one size.",
                remedy="resize",
            )
        if len(image) > channels:
            writer.widen()
            channels = len(image)
        grey += len(image) == 1
        writer.append(image[np.newaxis])
        progress.advance()
    converted = (f"{grey:,} grey images as RGB with three equal channels.",) if channels > 1 and grey else ()
    return (*converted, *decoder.notes)


def _decode_each(
    encoded: EncodedImages, resizing: Resizing, threads: int
) -> Iterator[tuple[str, np.ndarray, Counter[str]]]:
    """Yield the name of each file, its image and its conversions, in order. Raises: DatasetInvalid."""

    def decode(name: str, content: bytes) -> tuple[str, np.ndarray, Counter[str]]:
        decoder = Decoder(resizing)
        return name, decoder.decode(name, content), decoder.conversions

    if threads == 1:
        yield from (decode(name, content) for name, content in _require_count(encoded))
        return
    with ThreadPoolExecutor(threads) as pool:
        pending: deque[Future[tuple[str, np.ndarray, Counter[str]]]] = deque()
        try:
            for name, content in _require_count(encoded):
                pending.append(pool.submit(decode, name, content))
                if len(pending) > threads:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)


def _require_count(encoded: EncodedImages) -> Iterator[tuple[str, bytes]]:
    """Yield the files. Raises: DatasetInvalid where they are not as many as were counted before."""
    count = 0
    for count, (name, content) in enumerate(encoded.iterate(), start=1):
        if count > encoded.count:
            break
        yield name, content
    if count != encoded.count:
        raise DatasetInvalid(f"{encoded.title} changed while it was read. Start again.")


def _describe_size(image: np.ndarray) -> str:
    """Return the image's size and kind in words."""
    channels, height, width = image.shape
    return f"{width} × {height} {'grey' if channels == 1 else 'RGB'}"
