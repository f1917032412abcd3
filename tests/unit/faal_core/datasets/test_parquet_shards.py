"""Parquet files as on the Hugging Face hub: what is read, and what is refused."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from faal_core import datasets
from faal_core.datasets import ImageCache, Reading, Resizing, parquet_shards
from faal_core.errors import DatasetInvalid
from tests.unit.faal_core.datasets.test_image_folder import encode_image

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")

STRUCT = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def write_table(
    path: Path,
    labels: Sequence[Any],
    *,
    image: str = "image",
    label: str = "label",
    kind: Any = STRUCT,
    names: Sequence[Any] | None = None,
    images: Sequence[Any] | None = None,
) -> str:
    """Write images of ascending levels with those labels."""
    contents = images or [encode_image(10 * i) for i in range(len(labels))]
    values = [{"bytes": content, "path": None} for content in contents] if kind == STRUCT else contents
    table = pa.table({image: pa.array(values, kind), label: pa.array(labels), "id": pa.array(range(len(labels)))})
    if names is not None:
        features = {image: {"_type": "Image"}, label: {"names": names, "_type": "ClassLabel"}}
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path, row_group_size=3)
    return str(path)


@pytest.mark.parametrize("kind", [STRUCT, pa.binary(), pa.large_binary()])
@pytest.mark.parametrize(("image", "label"), [("image", "label"), ("img", "fine_label"), ("picture", "kind")])
def test_usual_columns_are_read(kind: Any, image: str, label: str, tmp_path: Path) -> None:
    """Images as structures or bytes are read under usual names, or those that the metadata describes."""
    path = write_table(
        tmp_path / "set.parquet", [1, 0, 1, 1], image=image, label=label, kind=kind, names=["cat", "ape"]
    )
    data = datasets.load(path, "test")
    assert (data.class_names, data.labels.tolist()) == (("cat", "ape"), [1, 0, 1, 1])
    assert data.images[:, 0, 0, 0].tolist() == [0, 10, 20, 30]
    assert (data.name, data.class_order) == ("set", "stored")


@pytest.mark.parametrize(
    "names",
    [
        ("data/train-00000-of-00002.parquet", "data/train-00001-of-00002.parquet", "data/test-00000-of-00001.parquet"),
        ("default/train/0000.parquet", "default/train/0001.parquet", "default/test/0000.parquet"),
    ],
)
def test_folders_as_on_the_hub_have_parts(names: Sequence[str], tmp_path: Path) -> None:
    """Files are shards of the part in their names or folders, in the order of the names; links to files are followed."""
    for i, name in enumerate(names):
        stored = Path(write_table(tmp_path / "blobs" / str(i), [0, 1, i]))
        link = tmp_path / "set" / name
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(stored)
    (tmp_path / "set/README.md").write_text("x")
    (tmp_path / "set/preview.png").write_bytes(encode_image())
    path = str(tmp_path / "set")
    assert set(datasets.list_parts(path)) == {"train", "test"}
    assert datasets.load(path, "train").labels.tolist() == [0, 1, 0, 0, 1, 1]
    assert datasets.load(path, "test").class_names == ("0", "1", "2")


def test_shards_are_cached(tmp_path: Path) -> None:
    """The cache holds the images of shards; resizing applies as to other image files."""
    path = write_table(tmp_path / "set.parquet", [0, 1] * 5)
    cache, reading = ImageCache(tmp_path / "cache"), Reading(Resizing((3, 4)))
    plain, written, read = (datasets.load(path, "test", cache=one, reading=reading) for one in (None, cache, cache))
    assert plain.sha256 == written.sha256 == read.sha256
    assert read.mapping is not None
    assert read.images.shape == (10, 1, 3, 4)
    assert torch.equal(read.images, plain.images)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"labels": [0, None]}, "1 of 2 images have no label"),
        ({"labels": [0, -1]}, "label span -1 to 0; they must be in"),
        ({"labels": ["a", "b"]}, "label must be whole numbers, one per image"),
        (
            {"labels": [0, 1], "label": "kind"},
            "no column of labels.*Its columns are image, kind, id. Rename the column to label",
        ),
        ({"labels": [0, 1], "image": "picture"}, "no column of images.*Rename the column to image"),
        ({"labels": [0, 1], "kind": pa.string(), "images": ["x", "y"]}, "image has type string, not the bytes"),
        ({"labels": [0, 1], "images": [encode_image(), None]}, "set.parquet, image 1 has no bytes"),
        ({"labels": [0, 1], "images": [encode_image(), b"x"]}, "set.parquet, image 1 cannot be decoded"),
        ({"labels": [0, 1], "images": [encode_image(), bytes(2**25 + 1)]}, "image 1 has 33,554,433 bytes; at most"),
        ({"labels": [0, 2], "names": ["cat", "ape"]}, "label 2 is not in 0…1"),
        ({"labels": [0, 1], "names": ["cat", "cat"]}, "two classes have the same name"),
        ({"labels": [0, 1], "names": ["cat", "\n"]}, "a class is called"),
        ({"labels": [0, 0], "names": ["cat"]}, "names 1 classes; 2 to"),
    ],
)
def test_what_breaks_a_rule_is_refused(options: dict[str, Any], reason: str, tmp_path: Path) -> None:
    """Missing columns, labels and images, and other types, are refused with the value."""
    with pytest.raises(DatasetInvalid, match=reason):
        datasets.load(write_table(tmp_path / "set.parquet", **options), "test")


def test_damaged_and_mixed_files_are_refused(tmp_path: Path) -> None:
    """A file that is cut off is refused, and shards that name different classes are, too."""
    path = Path(write_table(tmp_path / "set.parquet", [0, 1]))
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(DatasetInvalid, match=r"set\.parquet cannot be read as a Parquet file"):
        datasets.load(str(path), "test")
    write_table(tmp_path / "set/test-0.parquet", [0, 1], names=["a", "b"])
    write_table(tmp_path / "set/test-1.parquet", [0, 1], names=["b", "a"])
    with pytest.raises(DatasetInvalid, match="files of the test part of set name different classes"):
        datasets.load(str(tmp_path / "set"), "test")


@pytest.mark.parametrize(
    ("limit", "reason"),
    [
        ("shards.MAX_IMAGES", r"set \(test\) has 6 images; 1 to 5 are"),
        ("parquet_shards.MAX_FILE_BYTES", "3 images of image have .* bytes; at most 5 each"),
    ],
)
def test_too_much_is_refused_before_a_column_is_read(
    limit: str, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The metadata of the files tells how many images they have, and how large these are."""
    for number in range(2):
        write_table(tmp_path / f"set/test-{number}.parquet", [0, 1, 1])
    monkeypatch.setattr(f"faal_core.datasets.{limit}", 5)
    monkeypatch.setattr(pq.ParquetFile, "read", None)
    with pytest.raises(DatasetInvalid, match=reason):
        datasets.load(str(tmp_path / "set"), "test")


@pytest.mark.parametrize("kind", [STRUCT, pa.binary()])
def test_few_large_images_are_read_at_a_time(kind: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A dictionary may repeat one large image for many rows, so its size bounds how many are read at a time."""
    path = write_table(tmp_path / "set.parquet", [0, 1] * 6, kind=kind, images=[encode_image(7)] * 12)
    sizes = []
    iterate = pq.ParquetFile.iter_batches

    def record(file: Any, size: int, **options: Any) -> Any:
        sizes.append(size)
        return iterate(file, size, **options)

    monkeypatch.setattr(pq.ParquetFile, "iter_batches", record)
    for limit in (parquet_shards._BATCH_BYTES, 300):
        monkeypatch.setattr(parquet_shards, "_BATCH_BYTES", limit)
        assert len(datasets.load(path, "test")) == 12
    assert (sizes[0], sizes[-1] < 3) == (64, True)
