"""Test that exceptions of exhausted memory are recognised, for every library, and never reported as an invalid file."""

import errno
import mmap
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from faal_core.errors.memory_exhaustion import is_out_of_memory

ROOT = Path(__file__).parents[3]

# The process has 150 MB of memory left; each file is valid and needs more.
READ_IN_LITTLE_MEMORY = """
import resource, sys
from pathlib import Path
import torch
from faal_core import datasets, weights
from faal_core.errors import FaalError
from faal_core.specs import ClassifierSpec

folder = Path(sys.argv[1])
room = 150 * 2**20 + int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (room, room))
spec = ClassifierSpec(architecture="small_resnet", num_classes=10, mean=[0.5], std=[0.5])
for name in sys.argv[2:]:
    try:
        if name.startswith("w"):
            weights.read_classifier(folder / name, spec)
        else:
            datasets.load(str(folder / name), "test")
    except FaalError as error:
        print(name, error.code)
"""


def test_the_allocators_of_this_machine() -> None:
    """The exceptions of torch, NumPy, Python and the system for lack of memory are recognised."""
    for allocate in (
        lambda: torch.empty(2**60, dtype=torch.uint8),
        lambda: np.empty(2**60, np.uint8),
        lambda: bytearray(2**62),
        lambda: mmap.mmap(-1, 2**60),
    ):
        with pytest.raises((RuntimeError, MemoryError, OSError)) as exception:
            allocate()
        assert is_out_of_memory(exception.value)


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("no room"),
        RuntimeError("CUDA error: out of memory"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
        RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED"),
        RuntimeError("cusolver error: CUSOLVER_STATUS_ALLOC_FAILED, when calling `cusolverDnCreate(handle)`"),
        RuntimeError("cuFFT error: CUFFT_ALLOC_FAILED"),
        RuntimeError("MPS backend out of memory (MPS allocated: 17.00 GB)"),
        RuntimeError(
            "[enforce fail at alloc_cpu.cpp:127] data. DefaultCPUAllocator: not enough memory: you tried to allocate 8"
        ),
        RuntimeError("std::bad_alloc"),
        OSError(errno.ENOMEM, "Cannot allocate memory"),
        OSError("out of memory error when reading image file"),
    ],
)
def test_the_words_of_the_libraries(error: Exception) -> None:
    """Messages about memory by libraries that this machine cannot exhaust are recognised."""
    assert is_out_of_memory(error)


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("shapes do not match"),
        RuntimeError("CUDA error: device-side assert triggered"),
        ValueError("out of memory"),
        OSError(errno.ENOSPC, "No space left on device"),
    ],
)
def test_other_errors_do_not_count(error: Exception) -> None:
    """Other failures of these libraries, and the same words in an error about values, are not recognised."""
    assert not is_out_of_memory(error)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux limits a process's address space reliably")
def test_a_sound_file_is_not_called_damaged(tmp_path: Path) -> None:
    """Arrays, images and weights that do not fit into memory are reported as out of memory, not as invalid."""
    labels = np.arange(10)
    np.savez(tmp_path / "arrays.npz", test_images=np.zeros((10, 3, 2600, 2600), np.uint8), test_labels=labels)
    for name in ("test/a/1.png", "test/b/1.png"):
        (tmp_path / "images" / name).parent.mkdir(parents=True)
        Image.new("RGB", (5700, 5700)).save(tmp_path / "images" / name)
    torch.save({"a": torch.zeros(60_000_000)}, tmp_path / "weights.pt")
    names = ["arrays.npz", "images", "weights.pt"]
    command = [sys.executable, "-c", READ_IN_LITTLE_MEMORY, str(tmp_path), *names]
    process = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert process.stdout.split() == [word for name in names for word in (name, "out-of-memory")], process.stderr
