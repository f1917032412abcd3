"""Parquet files of images and labels, as data sets on the Hugging Face hub have them.

A file has a column of images and one of whole numbers, the labels. An image is the content of an image file, or a structure
{bytes, path} with it. The metadata of the hub names the classes. pyarrow reads the files (the extra `frames`).
"""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from faal_core.datasets import shards
from faal_core.datasets.array_conversion import convert_labels
from faal_core.datasets.image_cache import ImageCache, stamp_files
from faal_core.datasets.image_decoding import EncodedImages
from faal_core.datasets.image_file import Resizing
from faal_core.datasets.image_source import MAX_FILE_BYTES
from faal_core.datasets.labelled_images import LabelledImages, Part
from faal_core.datasets.names import require_names
from faal_core.errors import DatasetInvalid
from faal_core.errors.memory_exhaustion import require_memory
from faal_core.progress import Progress
from faal_core.specs import MAX_CLASSES

if TYPE_CHECKING:
    from pyarrow.parquet import ParquetFile

SUFFIX = ".parquet"
_MAGIC = b"PAR1"
_IMAGES, _LABELS = ("image", "img"), ("label", "labels", "fine_label")
_ROWS = 64  # read at a time at most
_BATCH_BYTES = MAX_FILE_BYTES  # of the images read at a time
_BUFFER = 2**20  # bytes read at a time, so that a row group of many gigabytes is not read at once


def is_shard(path: Path) -> bool:
    """Return whether the file begins as a Parquet file does. Raises: OSError."""
    with path.open("rb") as file:
        return file.read(len(_MAGIC)) == _MAGIC


def load(path: Path, part: Part, resizing: Resizing, cache: ImageCache | None, progress: Progress) -> LabelledImages:
    """Return one part of the file or folder.

    Raises: DatasetInvalid where the files or one of their images break a rule, or pyarrow is not installed.
    """
    files = shards.select_shards(path, SUFFIX, part)
    labels, names, count = [], set[tuple[str, ...] | None](), 0
    title = f"{shards.name_data_set(path)} ({part})"
    with _open(files[0]) as first:
        image_column, label_column = _find_image_column(first, files[0]), _find_label_column(first, files[0])
    for file in files:  # before a column is read: few bytes can hold very many labels
        with _open(file) as shard:
            count += shard.metadata.num_rows
            _require_small_images(shard, file, image_column)
    shards.require_few_images(count, title)
    for file in files:
        with _open(file) as shard:
            labels.append(_read_labels(shard, file, label_column))
            names.add(_read_class_names(shard, file, label_column))
    if len(names) > 1:
        raise DatasetInvalid(f"The files of the {part} part of {path.name} name different classes.")
    all_labels = np.concatenate(labels)
    encoded = EncodedImages(
        title=title,
        count=len(all_labels),
        iterate=lambda: (image for file in files for image in _iterate_images(file, image_column)),
        stamp=lambda: [image_column, *stamp_files(files)],
    )
    return shards.assemble(path, part, encoded, all_labels, names.pop(), resizing, cache, progress)


@contextmanager
def _open(path: Path) -> "Iterator[ParquetFile]":
    """Open the file for the block. Raises: DatasetInvalid for a damaged one."""
    import pyarrow.parquet

    try:
        with pyarrow.parquet.ParquetFile(path, buffer_size=_BUFFER, pre_buffer=False) as file:
            yield file
    except (pyarrow.ArrowException, OSError) as error:
        require_memory(error, f"to read {path.name}")
        raise DatasetInvalid(f"{path.name} cannot be read as a Parquet file: {str(error)[:200]}") from None


def _find_image_column(file: "ParquetFile", path: Path) -> str:
    """Return the name of the column of images: the metadata's, or a usual name. Raises: DatasetInvalid."""
    return _find_column(file, path, "Image", _IMAGES, "images ({bytes, path} or the bytes of image files)")


def _find_label_column(file: "ParquetFile", path: Path) -> str:
    """Return the name of the column of labels: a usual name, or the metadata's. Raises: DatasetInvalid."""
    return _find_column(file, path, "ClassLabel", _LABELS, "labels (whole numbers)")


def _find_column(file: "ParquetFile", path: Path, kind: str, usual_names: Sequence[str], content: str) -> str:
    """Return the first column with a usual name, or else the one that the metadata describes as of that kind."""
    columns = file.schema_arrow.names
    described = [name for name, feature in _read_features(file).items() if feature.get("_type") == kind]
    candidates = [name for name in usual_names if name in columns] or [name for name in described if name in columns]
    if not candidates or (len(candidates) > 1 and candidates[0] not in usual_names):
        raise DatasetInvalid(
            f"{path.name} has no column of {content}. Its columns are {', '.join(columns)[:200]}. Rename the column to "
            f"{usual_names[0]}."
        )
    return candidates[0]


def _read_features(file: "ParquetFile") -> dict[str, dict[str, Any]]:
    """Return the hub's description of each column; empty where there is none."""
    try:
        features = json.loads((file.schema_arrow.metadata or {})[b"huggingface"])["info"]["features"]
        return {name: feature for name, feature in features.items() if isinstance(feature, dict)}
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError):
        return {}


def _read_class_names(file: "ParquetFile", path: Path, column: str) -> tuple[str, ...] | None:
    """Return the names in the description of the labels; None where there are none. Raises: DatasetInvalid."""
    names = _read_features(file).get(column, {}).get("names")
    if not isinstance(names, list) or not names:
        return None
    if not 2 <= len(names) <= MAX_CLASSES:
        raise DatasetInvalid(f"{path.name} names {len(names):,} classes; 2 to {MAX_CLASSES:,} are supported.")
    texts = tuple(map(str, names))
    require_names(f"{path.name}: a class", texts)
    return texts


def _read_labels(file: "ParquetFile", path: Path, column: str) -> np.ndarray:
    """Return the labels of the file as int64. Raises: DatasetInvalid."""
    import pyarrow as pa

    kind = file.schema_arrow.field(column).type
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    if not pa.types.is_primitive(kind):
        raise DatasetInvalid(f"{path.name}: {column} must be whole numbers, one per image, not of type {kind}.")
    values = file.read(columns=[column]).column(column)
    if values.null_count:
        raise DatasetInvalid(f"{path.name}: {values.null_count:,} of {len(values):,} images have no {column}.")
    return convert_labels(values.to_numpy(), f"{path.name}: {column}")


def _require_small_images(file: "ParquetFile", path: Path, column: str) -> None:
    """Check the mean size of the images of each row group. Raises: DatasetInvalid."""
    for rows, size in _measure_row_groups(file, column):
        if size > MAX_FILE_BYTES * max(1, rows):
            raise DatasetInvalid(
                f"{path.name}: {rows:,} images of {column} have {size:,} bytes; at most {MAX_FILE_BYTES:,} each are read."
            )


def _choose_rows(file: "ParquetFile", column: str) -> int:
    """Return how many images to read at a time.

    A dictionary repeats one value for many rows, so each image may be as large as all values of its row group.
    """
    largest = max((size for _, size in _measure_row_groups(file, column)), default=1)
    return min(_ROWS, max(1, _BATCH_BYTES // max(1, largest)))


def _measure_row_groups(file: "ParquetFile", column: str) -> Iterator[tuple[int, int]]:
    """Yield the number of rows of each row group, and the bytes of the column's values, without compression."""
    for number in range(file.metadata.num_row_groups):
        group = file.metadata.row_group(number)
        chunks = [group.column(i) for i in range(group.num_columns)]
        yield group.num_rows, sum(c.total_uncompressed_size for c in chunks if c.path_in_schema.split(".")[0] == column)


def _iterate_images(path: Path, column: str) -> Iterator[tuple[str, bytes]]:
    """Yield a name and the content of each image. Raises: DatasetInvalid."""
    import pyarrow as pa

    row = 0
    with _open(path) as file:
        rows = _choose_rows(file, column)
        for batch in file.iter_batches(rows, columns=[column], use_threads=False):
            values = batch.column(0)
            if pa.types.is_struct(values.type) and values.type.get_field_index("bytes") >= 0:
                values = values.field("bytes")
            if not (pa.types.is_binary(values.type) or pa.types.is_large_binary(values.type)):
                raise DatasetInvalid(f"{path.name}: {column} has type {values.type}, not the bytes of image files.")
            for value in values:
                name, content = f"{path.name}, image {row}", value.as_py()
                if content is None:
                    raise DatasetInvalid(f"{name} has no bytes. Embed the images in the file.")
                if len(content) > MAX_FILE_BYTES:
                    raise DatasetInvalid(f"{name} has {len(content):,} bytes; at most {MAX_FILE_BYTES:,} are read.")
                yield name, content
                row += 1
