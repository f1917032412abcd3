"""Decoded images in a mapped file: the same data as in memory, in any order of failures."""

import io
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from faal_core import datasets
from faal_core.auditing.reliability import digest_pixels
from faal_core.datasets import ImageCache, LabelledImages, Reading, Resizing, image_cache, image_writers, mapped_images
from faal_core.datasets.data_warnings import examine_data
from faal_core.errors import DatasetInvalid
from faal_core.progress import Cancelled, NoProgress

COUNT = 12


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Read in pieces of a few images, and copy more than a few rows into a file."""
    monkeypatch.setattr(mapped_images, "PIECE_BYTES", 500)
    monkeypatch.setattr(mapped_images, "_COPY_BYTES", 600)


@pytest.fixture
def cache(tmp_path: Path) -> ImageCache:
    """Return a cache for sets of any size."""
    return ImageCache(tmp_path / "cache")


def write_pictures(root: Path, modes: str = "RGB", count: int = COUNT) -> str:
    """Write random pictures into class folders a and b; those of class a come first."""
    generator = np.random.default_rng(0)
    for i in range(count):
        grey = modes == "grey first" and i < count // 2
        levels = generator.integers(0, 256, (8, 9) if grey else (8, 9, 3), dtype=np.uint8)
        path = root / ("a" if i < count // 2 else "b") / f"{i:03}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(levels).save(path)
    return str(root)


def write_arrays(root: Path, shape: tuple[int, ...], kind: str, save: Callable[..., None] = np.savez) -> str:
    """Write random images and labels into an archive."""
    levels = np.random.default_rng(0).integers(0, 256, shape)
    images = np.asarray(levels if kind == "uint8" else levels / 255, kind)
    save(root / "set.npz", images=images, labels=np.arange(len(images)) % 2)
    return str(root / "set.npz")


def assert_equal(mapped: LabelledImages, plain: LabelledImages) -> None:
    """Check that the first data is in a file, the other in memory, and everything else is equal."""
    assert mapped.mapping is not None
    assert plain.mapping is None
    assert mapped.sha256 == plain.sha256
    assert mapped.summarise() == plain.summarise()
    assert digest_pixels(mapped) == digest_pixels(plain)
    assert [mapped.digest(row) for row in range(len(plain))] == [plain.digest(row) for row in range(len(plain))]
    assert torch.equal(mapped.images, plain.images)
    rows = torch.tensor([7, 1, 1, 10])
    pixels = mapped.pixels(rows, torch.device("cpu"))
    assert torch.equal(pixels, plain.pixels(rows, torch.device("cpu")))
    assert pixels.is_contiguous()


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("modes", ["RGB", "grey first"])
def test_cached_images_are_those_in_memory(
    modes: str, threads: int, tmp_path: Path, cache: ImageCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pictures from the cache have the pixels, digests and notes of pictures in memory, when written and when read again."""
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    path = write_pictures(tmp_path / "set", modes)
    plain = datasets.load(path, "test")
    assert_equal(datasets.load(path, "test", cache=cache), plain)
    written = {file.name: file.stat().st_mtime_ns for file in cache.folder.iterdir()}
    assert_equal(datasets.load(path, "test", cache=cache), plain)
    assert written == {file.name: file.stat().st_mtime_ns for file in cache.folder.iterdir()}
    assert {Path(name).suffix for name in written} == {".npy", ".json", ".lock"}


@pytest.mark.parametrize("shape", [(COUNT, 8, 9), (COUNT, 8, 9, 3), (COUNT, 3, 8, 9)])
@pytest.mark.parametrize("kind", ["uint8", "float32", "float64", "float16"])
@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_arrays_are_mapped(
    shape: tuple[int, ...], kind: str, save: Callable[..., None], tmp_path: Path, cache: ImageCache
) -> None:
    """Stored uint8 arrays are mapped from the archive itself, others from the cache; the data is that in memory."""
    path = write_arrays(tmp_path, shape, kind, save)
    assert_equal(datasets.load(path, "test", cache=cache), datasets.load(path, "test"))
    if kind == "uint8":
        assert cache.folder.exists() == (save is np.savez_compressed)


def test_fortran_order_is_changed_in_the_cache(tmp_path: Path, cache: ImageCache) -> None:
    """An array whose first axis varies fastest is cached image by image."""
    images = np.asfortranarray(np.random.default_rng(0).integers(0, 256, (COUNT, 8, 9), dtype=np.uint8))
    np.savez(tmp_path / "set.npz", images=images, labels=np.arange(COUNT) % 2)
    data = datasets.load(str(tmp_path / "set.npz"), "test", cache=cache)
    assert data.images.is_contiguous()
    assert torch.equal(data.images[:, 0], torch.from_numpy(images.copy(order="C")))


@pytest.mark.parametrize("size", [2, 11])
def test_rows_are_taken(size: int, tmp_path: Path, cache: ImageCache) -> None:
    """Few rows of a mapped file are copied into memory, many into a file without a name."""
    path = write_pictures(tmp_path / "set")
    mapped, plain = (datasets.load(path, "test", cache=one) for one in (cache, None))
    before = set(cache.folder.iterdir())
    rows = torch.arange(size).flip(0)
    taken = mapped.take(rows)
    assert (taken.mapping is not None) == (size > 2)
    assert taken.sha256 == plain.take(rows).sha256
    assert replace(taken, name="other").mapping is taken.mapping
    assert set(cache.folder.iterdir()) == before


def test_floats_are_checked_in_pieces(tmp_path: Path, cache: ImageCache) -> None:
    """Mapped floats are clipped, and refused, with the messages of floats in memory."""
    images = np.random.default_rng(0).random((COUNT, 8, 9)).astype(np.float32)
    for value, reason in ((1.0002, None), (np.nan, "1 of 864 pixel values are NaN, the first in image 9"), (2, "span")):
        images[9, 0, 0] = value
        np.savez(tmp_path / "set.npz", images=images, labels=np.arange(COUNT) % 2)
        path = str(tmp_path / "set.npz")
        if reason is None:
            assert_equal(datasets.load(path, "test", cache=cache), datasets.load(path, "test"))
            continue
        for one in (cache, None):
            with pytest.raises(DatasetInvalid, match=reason):
                datasets.load(path, "test", cache=one)


def test_black_and_nearly_black_images_are_noticed(tmp_path: Path, cache: ImageCache) -> None:
    """Mapped images that are black get their warning, and those of levels 0 and 1 are refused."""
    images = np.zeros((COUNT, 8, 9), np.uint8)
    for last, is_refused in ((0, False), (1, True)):
        images[-1, -1, -1] = last
        np.savez(tmp_path / "set.npz", images=images, labels=np.arange(COUNT) % 2)
        if is_refused:
            with pytest.raises(DatasetInvalid, match="levels 0 and 1 alone"):
                datasets.load(str(tmp_path / "set.npz"), "test", cache=cache)
        else:
            data = datasets.load(str(tmp_path / "set.npz"), "test", cache=cache)
            assert [warning.code for warning in examine_data(data, None)] == ["black-images"]


def test_small_sets_stay_in_memory(tmp_path: Path) -> None:
    """Images of fewer bytes than the cache's bound are in memory, and the cache has no folder."""
    path = write_pictures(tmp_path / "set")
    cache = ImageCache(tmp_path / "cache", min_bytes=COUNT * 3 * 8 * 9 + 1)
    assert datasets.load(path, "test", cache=cache).mapping is None
    assert datasets.load(write_arrays(tmp_path, (COUNT, 8, 9), "uint8"), "test", cache=cache).mapping is None
    assert not cache.folder.exists()


def test_a_changed_file_is_decoded_again(tmp_path: Path, cache: ImageCache) -> None:
    """Another content, of the same name, size and time, gives another entry; other options do, too."""
    path = write_pictures(tmp_path / "set")
    first = datasets.load(path, "test", cache=cache)
    changed = tmp_path / "set/a/000.png"
    status, content = changed.stat(), bytearray(changed.read_bytes())
    with Image.open(changed) as image:
        inverted = Image.fromarray(255 - np.asarray(image))
    file = io.BytesIO()
    inverted.save(file, "PNG")
    changed.write_bytes(file.getvalue()[: len(content)].ljust(len(content), b"\0"))
    os.utime(changed, ns=(status.st_atime_ns, status.st_mtime_ns))
    second = datasets.load(path, "test", cache=cache)
    assert second.sha256 != first.sha256
    assert second.sha256 == datasets.load(path, "test").sha256
    smaller = datasets.load(path, "test", reading=Reading(Resizing((4, 4))), cache=cache)
    assert smaller.images.shape == (COUNT, 3, 4, 4)
    assert len(list(cache.folder.glob("*.npy"))) == 3


def damage(file: Path, fault: str) -> None:
    """Write the file with the fault, or delete it."""
    content = file.read_bytes()
    changed = {
        "cut": content[:-1],
        "longer header": b"\x93NUMPY\x01\x00\xff\xff" + content[10:],
        "other magic": b"x" + content[1:],
        "flipped bit": content[:-1] + bytes([content[-1] ^ 1]),
        "empty": b"",
        "other shape": content.replace(b"(12, ", b"(13, ").replace(b"[12, ", b"[13, "),
    }
    if fault == "missing":
        file.unlink()
        return
    assert changed[fault] != content
    file.write_bytes(changed[fault])


@pytest.mark.parametrize(
    "fault", ["cut", "longer header", "other magic", "flipped bit", "empty", "other shape", "missing"]
)
@pytest.mark.parametrize("suffix", [".npy", ".json"])
def test_a_damaged_entry_is_written_again(fault: str, suffix: str, tmp_path: Path, cache: ImageCache) -> None:
    """A file of the cache that is cut off, changed or missing is replaced."""
    path = write_pictures(tmp_path / "set")
    expected = datasets.load(path, "test", cache=cache).sha256
    (file,) = cache.folder.glob(f"*{suffix}")
    before = file.read_bytes()
    damage(file, fault)
    assert datasets.load(path, "test", cache=cache).sha256 == expected
    assert datasets.load(path, "test", cache=cache).sha256 == expected
    assert file.read_bytes() == before


class CountingProgress(NoProgress):
    """Counts stages, and may cancel at one of its units."""

    def __init__(self, cancel_at: int | None = None) -> None:
        self.stages: list[tuple[str, int]] = []
        self._left = cancel_at

    def stage(self, name: str, total: int) -> None:
        """Record the stage."""
        self.stages.append((name, total))

    def advance(self, count: int = 1) -> None:
        """Count down. Raises: Cancelled."""
        if self._left is not None:
            self._left -= count
            if self._left <= 0:
                raise Cancelled


def test_a_cancelled_decoding_leaves_no_entry(tmp_path: Path, cache: ImageCache) -> None:
    """Decoding reports its progress and can be cancelled; the next one starts again."""
    path = write_pictures(tmp_path / "set")
    with pytest.raises(Cancelled):
        datasets.load(path, "test", cache=cache, progress=CountingProgress(cancel_at=5))
    assert [file.suffix for file in cache.folder.iterdir()] == [".lock"]
    progress = CountingProgress()
    assert_equal(datasets.load(path, "test", cache=cache, progress=progress), datasets.load(path, "test"))
    assert progress.stages == [
        (f"decoding set (test) into {cache.folder}", COUNT),
        ("checking the decoded images", COUNT),
    ]


def test_a_killed_decoding_is_replaced(tmp_path: Path, cache: ImageCache) -> None:
    """A process that is killed while it decodes leaves an unfinished file, which the next one replaces."""
    path = write_pictures(tmp_path / "set")
    code = (
        "import os, signal, sys\nfrom pathlib import Path\nfrom faal_core import datasets\n"
        "from faal_core.progress import NoProgress\n"
        "class Killer(NoProgress):\n    rows = 0\n    def advance(self, count=1):\n"
        "        self.rows += count\n        if self.rows == 7: os.kill(os.getpid(), signal.SIGKILL)\n"
        "cache = datasets.ImageCache(Path(sys.argv[2]))\n"
        "datasets.load(sys.argv[1], 'test', cache=cache, progress=Killer())\n"
    )
    command = [sys.executable, "-c", code, path, str(cache.folder)]
    killed = subprocess.run(command, cwd=Path(__file__).parents[4], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert list(cache.folder.glob("*.npy.part"))
    assert_equal(datasets.load(path, "test", cache=cache), datasets.load(path, "test"))
    assert not list(cache.folder.glob("*.part"))


def test_two_that_decode_at_once_share_one_file(
    tmp_path: Path, cache: ImageCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While one decodes, the other waits; it reads the finished file."""
    path = write_pictures(tmp_path / "set")
    opened, results = [], []
    write = image_writers.FileWriter

    def open_writer(*arguments: Any) -> image_writers.FileWriter:
        opened.append(arguments)
        return write(*arguments)

    monkeypatch.setattr(image_cache, "FileWriter", open_writer)
    both = [
        threading.Thread(target=lambda: results.append(datasets.load(path, "test", cache=cache).sha256))
        for _ in range(2)
    ]
    for one in both:
        one.start()
    for one in both:
        one.join()
    assert results == [datasets.load(path, "test").sha256] * 2
    assert len(opened) == 1


@pytest.mark.parametrize("threads", [1, 3])
def test_the_first_fault_is_reported(
    threads: int, tmp_path: Path, cache: ImageCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of several images that cannot be decoded, the first is named, however many are decoded at once."""
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    path = write_pictures(tmp_path / "set")
    for number in (3, 4, 5):
        (tmp_path / f"set/a/{number:03}.png").write_bytes(b"x")
    with pytest.raises(DatasetInvalid, match=r"a/003\.png cannot be decoded"):
        datasets.load(path, "test", cache=cache)


def test_a_full_disk_is_reported(tmp_path: Path, cache: ImageCache, monkeypatch: pytest.MonkeyPatch) -> None:
    """Images that need more than the disk has free are refused before the first is written."""
    path = write_pictures(tmp_path / "set")
    monkeypatch.setattr(image_writers, "_DISK_RESERVE", 2**60)
    with pytest.raises(
        DatasetInvalid, match=r"decoded images take 2,592 bytes, and the disk of .* bytes free"
    ) as error:
        datasets.load(path, "test", cache=cache)
    assert error.value.remedy == "cache"


def test_a_folder_that_cannot_be_written_is_reported(tmp_path: Path) -> None:
    """A cache below a file is refused with its path."""
    path = write_pictures(tmp_path / "set")
    (tmp_path / "file").touch()
    with pytest.raises(DatasetInvalid, match=r"cannot be written to .*file/cache: Not a directory"):
        datasets.load(path, "test", cache=ImageCache(tmp_path / "file/cache"))


def test_a_damaged_archive_is_refused(tmp_path: Path, cache: ImageCache) -> None:
    """An archive whose stored images do not have its checksum is refused, mapped as well as in memory."""
    path = write_arrays(tmp_path, (COUNT, 80, 90), "uint8")
    content = bytearray(Path(path).read_bytes())
    content[len(content) // 2] ^= 1
    Path(path).write_bytes(content)
    with pytest.raises(DatasetInvalid, match=r"images\.npy does not have the checksum"):
        datasets.load(path, "test", cache=cache)
    with pytest.raises(DatasetInvalid, match="images cannot be read as an array: Bad CRC-32"):
        datasets.load(path, "test")


@pytest.mark.parametrize("shape", ["(12, 3, 9, 8)", "((12, 3, 8, 9", "(12, 3, 8, 9 "])
def test_a_changed_header_is_replaced(shape: str, tmp_path: Path, cache: ImageCache) -> None:
    """Images whose header differs from the record, or cannot be read, are decoded again."""
    path = write_pictures(tmp_path / "set")
    plain = datasets.load(path, "test", cache=cache)
    (file,) = cache.folder.glob("*.npy")
    content = file.read_bytes()
    assert b"(12, 3, 8, 9)" in content
    file.write_bytes(content.replace(b"(12, 3, 8, 9)", shape.encode()))
    assert_equal(datasets.load(path, "test", cache=cache), datasets.load(path, "test"))
    assert file.read_bytes() == content
    assert plain.mapping is not None


@pytest.mark.parametrize(
    ("images", "message"),
    [(np.float64(0.5), "not of shape"), (np.zeros((0, 8, 8, 3), np.uint8), "has no images")],
    ids=["a number", "no image"],
)
def test_arrays_that_hold_no_images_are_refused_with_a_cache_too(
    images: np.ndarray, message: str, tmp_path: Path, cache: ImageCache
) -> None:
    """A cache does not change which arrays of an archive are refused, and with which reason."""
    np.savez_compressed(tmp_path / "set.npz", images=images, labels=np.arange(2))
    with pytest.raises(DatasetInvalid, match=message):
        datasets.load(str(tmp_path / "set.npz"), "test", cache=cache)
