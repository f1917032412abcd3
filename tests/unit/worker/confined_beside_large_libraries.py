"""Its import maps 12 GiB of address space, as that of torch's build for CUDA does, and takes a second and a half."""

import mmap
import time

from tests.unit.worker.confined_functions import allocate, describe

__all__ = ["allocate", "describe"]

LIBRARIES = mmap.mmap(-1, 12 * 2**30, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, prot=0)
while time.process_time() < 1.5:
    pass
