"""Test that several processes train as one; they are real ones, started by torchrun, and communicate by gloo."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from faal_core.training.ranks import SINGLE_RANK, Ranks, join_ranks

ROOT = Path(__file__).parents[4]
SCRIPT = Path(__file__).with_name("ranks_process.py")


def start_processes(out: Path, processes: int, *arguments: str) -> int:
    """Run that many processes of the script, several by torchrun, and return the exit status."""
    out.mkdir(exist_ok=True)
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    command = [sys.executable, *(launcher if processes > 1 else []), str(SCRIPT), str(out), *arguments]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
    return subprocess.run(command, check=False, env=environment, timeout=240).returncode


def read_results(out: Path) -> list[Any]:
    """Return the result of each process, in the order of their numbers."""
    return [torch.load(file, weights_only=True) for file in sorted(out.glob("*.pt"))]


@pytest.fixture(scope="module")
def alone_and_together(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return the result of a single process, and of each of two."""
    folder = tmp_path_factory.mktemp("ranks")
    for processes in (1, 2):
        assert start_processes(folder / str(processes), processes, "every-method") == 0
    (alone,), together = read_results(folder / "1"), read_results(folder / "2")
    return alone, together


@pytest.mark.parametrize("method", ["faal", "faal, perturbed", "frl", "cfa", "wat", "dafa", "cfol", "fsr", "decosam"])
def test_two_processes_train_as_one_does(
    alone_and_together: tuple[dict[str, Any], list[dict[str, Any]]], method: str
) -> None:
    """Two processes have a single one's class weights, losses and validation accuracies to 1e-5, and its weights."""
    alone, together = alone_and_together
    for row, other in zip(alone[method]["rows"], together[0][method]["rows"], strict=True):
        assert other["class_weights"] == pytest.approx(row["class_weights"], abs=1e-5)
        assert other["loss"] == pytest.approx(row["loss"], abs=1e-5)
        assert other["validation_robust"] == pytest.approx(row["validation_robust"], abs=1e-5)
        assert other["validation_robust_worst"] == pytest.approx(row["validation_robust_worst"], abs=1e-5)
    for name, value in alone[method]["weights"].items():
        assert torch.allclose(together[0][method]["weights"][name], value, atol=1e-5), name


def test_all_processes_end_with_the_same_weights(
    alone_and_together: tuple[dict[str, Any], list[dict[str, Any]]],
) -> None:
    """All processes end with the same weights, bit for bit."""
    _, (one, two) = alone_and_together
    for method, result in one.items():
        assert result["share"] == two[method]["share"]
        for name, value in result["weights"].items():
            assert torch.equal(two[method]["weights"][name], value), (method, name)


def test_the_methods_do_something(alone_and_together: tuple[dict[str, Any], list[dict[str, Any]]]) -> None:
    """FAAL and DAFA weigh classes differently, and CFOL's draws and CFA's radii give other weights than uniform ones."""
    alone, _ = alone_and_together
    for method in ("faal", "dafa", "frl", "wat"):
        assert max(alone[method]["rows"][-1]["class_weights"]) > 1.001, method
    ends = [alone[method]["weights"]["backbone.0.weight"] for method in ("faal", "cfa", "cfol")]
    assert not torch.equal(ends[0], ends[1])
    assert not torch.equal(ends[1], ends[2])


@pytest.mark.parametrize(("rows", "count"), [(10, 3), (3, 4), (128, 8), (0, 2)])
def test_every_row_has_one_process(rows: int, count: int) -> None:
    """The shards of all processes have the rows in order, and their sizes differ by at most one."""
    shards = [list(range(rows))[Ranks(number, count).shard(rows)] for number in range(count)]
    assert [row for shard in shards for row in shard] == list(range(rows))
    assert max(map(len, shards)) - min(map(len, shards)) <= 1


def test_a_process_of_its_own_leads() -> None:
    """A process without torchrun's variables is the leader of one rank."""
    with join_ranks({}, torch.device("cpu")) as ranks:
        assert (ranks, ranks.is_leader) == (SINGLE_RANK, True)


@pytest.mark.slow
def test_three_processes_resume_from_a_checkpoint(tmp_path: Path) -> None:
    """All processes resume to the same bits after the first one's death, also with batch-norm and a last batch of two images."""
    assert start_processes(tmp_path / "undisturbed", 3, "resumed") == 0
    assert start_processes(tmp_path / "killed", 3, "resumed", "9") != 0
    assert (tmp_path / "killed" / "training.checkpoint").exists()
    assert read_results(tmp_path / "killed") == []
    assert start_processes(tmp_path / "killed", 3, "resumed") == 0
    (one, *others), (reference, *_) = read_results(tmp_path / "killed"), read_results(tmp_path / "undisturbed")
    for name, value in reference.items():
        assert torch.equal(one[name], value), name
        assert all(torch.equal(other[name], value) for other in others), name


def test_only_statistics_of_batch_norm_are_averaged(tmp_path: Path) -> None:
    """Statistics of 0, 1 and 2 become their mean 1; the normalisation and other constants keep every bit."""
    assert start_processes(tmp_path, 3, "levelled") == 0
    for number, result in enumerate(read_results(tmp_path)):
        for name, value in result.items():
            assert value == (1 if "running" in name else number), name
        assert any("running" in name for name in result)
        assert {"mean", "std", "backbone.constant"} <= result.keys()


@pytest.mark.parametrize(
    ("error", "leader", "follower"),
    [
        ("full", "OutOfMemory", "OutOfMemory"),
        ("diverged", "TrainingDiverged", "TrainingDiverged"),
        ("broken", "RuntimeError", "ValueError"),
        ("search", "ValueError", "RuntimeError"),
    ],
)
def test_where_one_process_fails_all_do(tmp_path: Path, error: str, leader: str, follower: str) -> None:
    """No process waits for a failed one: the failed one raises its own error, and the other one of the same kind."""
    assert start_processes(tmp_path, 2, "failing", error) == 0
    assert read_results(tmp_path) == [leader, follower]


def test_processes_that_read_different_checkpoints_are_refused(tmp_path: Path) -> None:
    """If only one of two processes reads a checkpoint, both raise the same error and do not train."""
    assert start_processes(tmp_path, 2, "divided") == 0
    first, second = read_results(tmp_path)
    assert first == second
    assert first.startswith(f"The state read from {tmp_path / 'training.checkpoint'} is not the same")
