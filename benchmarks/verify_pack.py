"""Measure the verification of a pack of 10,000 images without weights, with adversarial images of CIFAR-10's size.

    python -m benchmarks.verify_pack [--quick]

The last line is JSON.
"""

import argparse
import json
import platform
import resource
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from faal_core.evidence import verify_pack, write_pack
from tests.evidence_packs import make_signer, write_sample

SHAPE, CLASSES = (3, 32, 32), 10


def measure(images_per_class: int) -> dict[str, float]:
    """Return the times to write and to verify a pack of ten classes, its size, and the largest memory of the process."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        adversarial = np.random.default_rng(0).random((CLASSES * images_per_class, *SHAPE), np.float32)
        np.save(folder / "adversarial.npy", adversarial)
        write_sample(folder / "out", images_per_class, adversarial)
        signer = make_signer(folder)
        start = time.perf_counter()
        write_pack(folder / "pack.zip", folder / "out", adversarial=folder / "adversarial.npy", signer=signer)
        written = time.perf_counter()
        result = verify_pack(folder / "pack.zip", public_key=signer.public_key)
        end = time.perf_counter()
        if not result.verified:
            raise SystemExit("The pack was refused.")
        return {
            "images": len(adversarial),
            "megabytes": round((folder / "pack.zip").stat().st_size / 1e6, 1),
            "write_seconds": round(written - start, 2),
            "verify_seconds": round(end - written, 2),
            "largest_memory_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3),
        }


def main() -> None:
    """Print the measurement."""
    parser = argparse.ArgumentParser(description="Measure the verification of a pack.")
    parser.add_argument("--quick", action="store_true", help="a tenth of the images")
    figures = measure(100 if parser.parse_args().quick else 1000)
    print(json.dumps(figures | {"machine": platform.processor() or platform.machine()}))


if __name__ == "__main__":
    main()
