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
    """For each method how an undisturbed run ended, and how one ended that was killed ten times and started again."""
    out = tmp_path_factory.mktemp("kills")
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    subprocess.run([sys.executable, str(SCRIPT), str(out)], check=True, env=environment, timeout=280)
    return {file.stem: torch.load(file, weights_only=True) for file in out.glob("*.pt")}


@pytest.mark.slow
@pytest.mark.parametrize("method", ["faal", "uniform", "frl", "cfa", "wat", "dafa", "cfol"])
def test_ten_kills_change_nothing(runs: dict[str, dict[str, Any]], method: str) -> None:
    """A run goes on from its last checkpoint after each kill, and ends with an undisturbed run's weights, bit for bit.

    At least three kills leave half a checkpoint behind, beside the whole one before it.
    """
    undisturbed, resumed = runs[method]["undisturbed"], runs[method]["resumed"]
    assert runs[method]["half_written"] >= 3
    assert resumed["batches"] < undisturbed["batches"]
    assert resumed["rows"] == undisturbed["rows"]
    assert resumed["weights"].keys() == undisturbed["weights"].keys()
    for name, value in undisturbed["weights"].items():
        assert torch.equal(resumed["weights"][name], value), name
