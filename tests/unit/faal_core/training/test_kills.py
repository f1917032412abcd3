"""Training under `kill -9`: real processes, killed in steps, in validation and while a checkpoint is being written."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

ROOT = Path(__file__).parents[4]
SCRIPT = Path(__file__).with_name("killed_process.py")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """Return the results, by method, of an uninterrupted run and of one that was killed ten times and restarted."""
    out = tmp_path_factory.mktemp("kills")
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    subprocess.run([sys.executable, str(SCRIPT), str(out)], check=True, env=environment, timeout=280)
    return {file.stem: torch.load(file, weights_only=True) for file in out.glob("*.pt")}


@pytest.mark.slow
@pytest.mark.parametrize("method", ["faal", "uniform", "frl", "cfa", "wat", "dafa", "cfol", "fsr", "decosam"])
def test_ten_kills_change_nothing(runs: dict[str, dict[str, Any]], method: str) -> None:
    """A run resumes from its last checkpoint after each kill, and ends with an uninterrupted run's weights, bit for bit.

    At least three kills leave half a checkpoint behind, beside the whole one before it.
    """
    reference, continuation = runs[method]["undisturbed"], runs[method]["resumed"]
    assert runs[method]["half_written"] >= 3
    assert continuation["batches"] < reference["batches"]
    assert continuation["rows"] == reference["rows"]
    assert continuation["weights"].keys() == reference["weights"].keys()
    for name, value in reference["weights"].items():
        assert torch.equal(continuation["weights"][name], value), name
