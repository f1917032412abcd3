"""Several processes train as one: real ones, started by torchrun, that talk by gloo."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from faal_core.training.ranks import ALONE, Ranks, joined

ROOT = Path(__file__).parents[4]
SCRIPT = Path(__file__).with_name("ranks_process.py")


def trained(out: Path, *launcher: str) -> list[dict[str, Any]]:
    """What each process of the script wrote."""
    out.mkdir()
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
    subprocess.run([sys.executable, *launcher, str(SCRIPT), str(out)], check=True, env=environment, timeout=240)
    return [torch.load(file, weights_only=True) for file in sorted(out.iterdir())]


@pytest.fixture(scope="module")
def alone_and_together(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """What one process finds, and what each of two finds."""
    folder = tmp_path_factory.mktemp("ranks")
    torchrun = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    (alone,), together = trained(folder / "one"), trained(folder / "two", *torchrun)
    return alone, together


@pytest.mark.parametrize("method", ["faal", "faal, perturbed", "frl", "cfa", "wat", "dafa", "cfol"])
def test_two_processes_train_as_one_does(
    alone_and_together: tuple[dict[str, Any], list[dict[str, Any]]], method: str
) -> None:
    """With the same batches: the same weights of classes, losses and held-out accuracies to 1e-5, and the same weights."""
    alone, together = alone_and_together
    for row, other in zip(alone[method]["rows"], together[0][method]["rows"], strict=True):
        assert other["class_weights"] == pytest.approx(row["class_weights"], abs=1e-5)
        assert other["loss"] == pytest.approx(row["loss"], abs=1e-5)
        assert other["held_out_mean"] == pytest.approx(row["held_out_mean"], abs=1e-5)
        assert other["held_out_worst"] == pytest.approx(row["held_out_worst"], abs=1e-5)
    for name, value in alone[method]["weights"].items():
        assert torch.allclose(together[0][method]["weights"][name], value, atol=1e-5), name


def test_all_processes_end_with_the_same_weights(
    alone_and_together: tuple[dict[str, Any], list[dict[str, Any]]],
) -> None:
    """Bit for bit: none drifts from the others."""
    _, (one, two) = alone_and_together
    for method, found in one.items():
        assert found["share"] == two[method]["share"]
        for name, value in found["weights"].items():
            assert torch.equal(two[method]["weights"][name], value), (method, name)


def test_the_methods_do_something(alone_and_together: tuple[dict[str, Any], list[dict[str, Any]]]) -> None:
    """FAAL's and DAFA's classes are weighed apart; CFOL's draws and CFA's radii lead elsewhere than uniform ones would."""
    alone, _ = alone_and_together
    for method in ("faal", "dafa", "frl", "wat"):
        assert max(alone[method]["rows"][-1]["class_weights"]) > 1.001, method
    ends = [alone[method]["weights"]["backbone.0.weight"] for method in ("faal", "cfa", "cfol")]
    assert not torch.equal(ends[0], ends[1])
    assert not torch.equal(ends[1], ends[2])


@pytest.mark.parametrize(("rows", "count"), [(10, 3), (3, 4), (128, 8), (0, 2)])
def test_every_row_has_one_process(rows: int, count: int) -> None:
    """The shares of all processes are the rows in order, and differ by at most one."""
    shares = [list(range(rows))[Ranks(number, count).share(rows)] for number in range(count)]
    assert [row for share in shares for row in share] == list(range(rows))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_a_process_of_its_own_leads() -> None:
    """Without torchrun's variables nothing is joined."""
    with joined({}, torch.device("cpu")) as (ranks, device):
        assert (ranks, device.type, ranks.leads) == (ALONE, "cpu", True)
