"""Make the bundled data set: `make_bundled_data.py RAW_FOLDER`, the folder of Fashion-MNIST's four official .gz files.

The script takes the first 600 images of each class of the official training part and the first 300 of the test part, in
official order. It writes one archive: {train,test}_images (n 28 28, uint8), {train,test}_labels (n, uint8), {train,test}_rows
(row numbers in the official part, int32) and class_names. The official files are already shuffled, so no seed is needed, and
every run writes the same arrays.
"""

import gzip
import sys
from pathlib import Path

import numpy as np

TARGET = Path(__file__).resolve().parents[1] / "faal_core/bundled/fashion_mnist_subset.npz"
PARTS = {"train": ("train", 600), "test": ("t10k", 300)}
CLASS_NAMES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)


def read_idx(path: Path) -> np.ndarray:
    """Return the array of unsigned bytes of a gzipped IDX file: two zero bytes, type 8, rank, big-endian sizes, values.

    Raises: SystemExit for another type.
    """
    content = gzip.decompress(path.read_bytes())
    rank = content[3]
    if content[:3] != b"\0\0\x08":
        raise SystemExit(f"{path} is not an IDX file of unsigned bytes")
    shape = np.frombuffer(content, ">i4", count=rank, offset=4)
    return np.frombuffer(content, np.uint8, offset=4 + 4 * rank).reshape(shape)


def find_first_of_each_class(labels: np.ndarray, count: int) -> np.ndarray:
    """Return the row numbers, ascending, of the first `count` images of every class."""
    return np.sort(np.concatenate([np.flatnonzero(labels == c)[:count] for c in range(len(CLASS_NAMES))]))


def make(raw: Path, target: Path) -> None:
    """Read the official files in `raw` and write the archive `target`."""
    arrays = {"class_names": np.array(CLASS_NAMES)}
    for part, (stem, count) in PARTS.items():
        images = read_idx(raw / f"{stem}-images-idx3-ubyte.gz")
        labels = read_idx(raw / f"{stem}-labels-idx1-ubyte.gz")
        rows = find_first_of_each_class(labels, count)
        arrays |= {
            f"{part}_images": images[rows],
            f"{part}_labels": labels[rows],
            f"{part}_rows": rows.astype(np.int32),
        }
    np.savez_compressed(target, allow_pickle=False, **arrays)
    print(f"{target}: {target.stat().st_size:,} bytes")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    make(Path(sys.argv[1]), TARGET)
