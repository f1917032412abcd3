"""ONNX files that are damaged, hostile or not supported: each is refused by name, quickly, and in little memory."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytest.importorskip("onnx")

from faal_core.errors import WeightsUnreadable
from faal_core.weights import read_classifier
from tests.hostile_onnx_files import HOSTILE

SECONDS = 10  # of the processor: a busy machine takes longer
MEMORY = 2**30  # beyond that of the libraries


def write(name: str, folder: Path) -> Path:
    """Write that hostile file."""
    made, path = HOSTILE[name][0](), folder / f"{name}.onnx"
    path.write_bytes(made if isinstance(made, bytes) else made.SerializeToString())
    return path


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files_are_refused(name: str, tmp_path: Path) -> None:
    """Each file is refused with the reason, in time."""
    path, start = write(name, tmp_path), time.process_time()
    with pytest.raises(WeightsUnreadable, match=HOSTILE[name][1]):
        read_classifier(path)
    assert time.process_time() - start < SECONDS


def test_hostile_files_take_little_memory(tmp_path: Path) -> None:
    """All files are refused with the same reasons in a process that may take 1 GB more than its libraries."""
    paths = [write(name, tmp_path) for name in HOSTILE]
    program = f"""
import json, pathlib, resource, sys, onnx
from faal_core.errors import FaalError
from faal_core.weights import read_classifier
from worker.memory import mapped_bytes
limit = mapped_bytes() + {MEMORY}
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
codes = []
for path in sys.argv[1:]:
    try:
        read_classifier(pathlib.Path(path))
        codes.append("read")
    except FaalError as error:
        codes.append(error.code)
print(json.dumps(codes))
"""
    run = subprocess.run(
        [sys.executable, "-c", program, *map(str, paths)], capture_output=True, text=True, check=True, timeout=120
    )
    assert json.loads(run.stdout) == ["weights-unreadable"] * len(paths), run.stderr
