"""The summary of an uploaded data set, and the refusals."""

import io
import tarfile
import tempfile
from pathlib import Path
from zipfile import ZipFile

import numpy as np
import pytest
from PIL import Image

from faal_core.errors import DatasetInvalid
from worker.upload_reading import summarise_dataset

IMAGES, LABELS = np.zeros((6, 8, 9), np.uint8), np.array([0, 1, 2, 0, 1, 2])


def archive(folder: Path, **arrays: np.ndarray) -> Path:
    """Return a stored .npz of those arrays."""
    path = folder / "0123abcd"  # stored files have no extension
    with path.open("wb") as file:
        np.savez(file, **arrays)
    return path


def summary(folder: Path, **arrays: np.ndarray) -> dict[str, object]:
    """Return the summary of an archive of those arrays."""
    confined_folder = folder / "confined"
    confined_folder.mkdir()
    return summarise_dataset(confined_folder, archive(folder, **arrays))


def test_both_parts_are_told(tmp_path):
    """The summary has shape, class names, the images of each part, and the columns of groups of both parts."""
    summary_read = summary(
        tmp_path,
        train_images=np.repeat(IMAGES, 2, 0),
        train_labels=np.repeat(LABELS, 2),
        test_images=IMAGES,
        test_labels=LABELS,
        class_names=np.array(["a", "b", "c"]),
        test_group_camera=np.array([7, 7, 7, 9, 9, 9]),
        train_group_room=np.zeros(12, int),
    )
    assert summary_read == {
        "shape": (1, 8, 9),
        "class_names": ("a", "b", "c"),
        "images": {"test": 6, "train": 12},
        "groups": {"camera": ("7", "9")},
        "training_groups": ["room"],
    }


def test_test_part_suffices(tmp_path):
    """An archive for audits alone needs no training part."""
    assert summary(tmp_path, images=IMAGES, labels=LABELS)["images"] == {"test": 6}


@pytest.mark.parametrize(
    "names", [["bus/0.png", "train/0.png"], ["bullet_train/1.png", "bus/1.png"], ["a/train_1.png", "b/test_2.png"]]
)
def test_words_in_names_are_no_parts(names, tmp_path):
    """The reader of the images decides which parts exist, whatever words are in the names of classes and files."""
    content = io.BytesIO()
    Image.new("L", (9, 8), 7).save(content, "PNG")
    with ZipFile(tmp_path / "0123abcd", "w") as target:
        for name in names:
            target.writestr(name, content.getvalue())
    summary_read = summarise_dataset(tmp_path, tmp_path / "0123abcd")
    assert summary_read["images"] == {"test": 2}
    assert summary_read["class_names"] == tuple(sorted(name.split("/")[0] for name in names))


def test_other_arrays_with_a_parts_name_are_no_part(tmp_path):
    """An array whose name begins with "train" is no training part without its labels."""
    summary_read = summary(tmp_path, images=IMAGES, labels=LABELS, train_mean=np.zeros(3), train_images=IMAGES)
    assert summary_read["images"] == {"test": 6}


def test_validation_images_are_told(tmp_path):
    """A validation part is counted as such."""
    parts = {
        f"{part}_{suffix}": array
        for part in ("train", "val", "test")
        for suffix, array in (("images", IMAGES), ("labels", LABELS))
    }
    assert summary(tmp_path, **parts)["images"] == {"test": 6, "train": 6, "validation": 6}


def test_broken_training_part_is_refused(tmp_path):
    """A training part must be valid if it exists."""
    with pytest.raises(DatasetInvalid):
        summary(tmp_path, test_images=IMAGES, test_labels=LABELS, train_images=IMAGES[:5], train_labels=LABELS)


def test_training_part_alone_is_refused(tmp_path):
    """A data set without a test part is refused."""
    with pytest.raises(DatasetInvalid, match="test part"):
        summary(tmp_path, train_images=IMAGES, train_labels=LABELS)


def test_shards_are_refused(tmp_path):
    """The service reads no tar and no Parquet files, which the command line reads."""
    path = tmp_path / "0123abcd"
    with tarfile.open(path, "w") as target:
        target.addfile(tarfile.TarInfo("0.cls"))
    for content in (path.read_bytes(), b"PAR1" + bytes(100) + b"PAR1"):
        path.write_bytes(content)
        inside = Path(tempfile.mkdtemp(dir=tmp_path))
        with pytest.raises(DatasetInvalid, match=r"Pass a \.npz archive or a \.zip of class folders"):
            summarise_dataset(inside, path)


def test_refusal_names_no_digest(tmp_path):
    """The error does not contain the name under which the file is stored."""
    path = tmp_path / "0123abcd"
    path.write_bytes(b"no archive at all")
    with pytest.raises(DatasetInvalid) as refusal:
        summarise_dataset(tmp_path, path)
    assert "0123abcd" not in refusal.value.message
