"""A network of the user's own code on the command line, and the files with the outcome of each image."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from faal_core.results.documents import AuditReport
from faal_core.results.reading import read_report
from tests.command_line import UNBOUNDED, run_faal

LAYERS = """
import torch
from torch import nn

def flat(width, num_classes):
    torch.manual_seed(0)
    return nn.Sequential(nn.AdaptiveAvgPool2d(6), nn.Flatten(), nn.Linear(36, width), nn.ReLU(), nn.Linear(width, num_classes))
"""
NETWORKS = """
from layers import flat

def build(num_classes, width=4):
    return flat(width, num_classes)

class Holder:
    ready = flat(4, 3)

def broken():
    raise RuntimeError("no such layer")

def leave():
    raise SystemExit("goodbye")

def number():
    return 7
"""
DATA = ("--dataset", "rows.npz", "--attacks", "quick", "--epsilon", "8/255", "--out", "out")


@pytest.fixture
def own(folder: Path) -> Path:
    """Return the folder with code of a network, in a folder of its own beside a module that the code imports."""
    (folder / "code").mkdir()
    (folder / "code/own_layers_nets.py").write_text(NETWORKS.replace("layers", "own_layers"))
    (folder / "code/own_layers.py").write_text(LAYERS)
    return folder


def read_audit(folder: Path) -> AuditReport:
    """Return the report in the folder `out`."""
    report = read_report((folder / "out/report.json").read_text())
    assert isinstance(report, AuditReport)
    return report


@pytest.mark.parametrize(
    ("reference", "arguments", "parameters"),
    [
        ("code/own_layers_nets.py:build", (), 37 * 4 + 5 * 3),
        ("code/own_layers_nets.py:build", ("--argument", "width=8"), 37 * 8 + 9 * 3),
        ("code/own_layers_nets.py:Holder.ready", (), 37 * 4 + 5 * 3),
    ],
)
def test_code_in_a_file_is_audited(
    own: Path, monkeypatch: pytest.MonkeyPatch, reference: str, arguments: tuple[str, ...], parameters: int
) -> None:
    """The network is the one that the code builds with the given arguments, and the report states the code's name."""
    command = ("audit", "--network", reference, "--num-classes", "3", *arguments, *DATA)
    assert run_faal(monkeypatch, own, *command) == 0
    report = read_audit(own)
    assert report.classifier.parameters == parameters
    assert report.classifier.spec.architecture == f"python:own_layers_nets.{reference.rpartition(':')[2]}"
    assert report.classifier.name == reference.rpartition(":")[2]


def test_a_fine_tuned_network_of_own_code_is_read_again(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights that `faal finetune` wrote for own code are audited with the code, and `faal keep` makes their candidates."""
    network = ("--network", "code/own_layers_nets.py:build")
    train = ("--set", "training.batch_size=20", "--set", "training.attack.steps=1", *UNBOUNDED)
    assert run_faal(monkeypatch, own, "finetune", *network, "--num-classes", "3", *train, *DATA) in (0, 4, 5)
    weights = ("--weights", "out/trained.safetensors")
    assert run_faal(monkeypatch, own, "audit", *weights, *network, "--num-classes", "3", *DATA[:-1], "again") == 0
    torch.save({"module.2.weight": torch.ones(4, 36)}, own / "partial.pth")
    command = ("audit", "--weights", "partial.pth", *network, "--num-classes", "3", *DATA[:-1], "third")
    assert run_faal(monkeypatch, own, *command) == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((), "pass --weights FILE, or --network FILE.py:NAME"),
        (("--network", "code/own_layers_nets.py"), "names no code"),
        (("--network", "code/own_layers_nets.py:build"), "also needs --num-classes"),
        (("--network", "code/none.py:build", "--num-classes", "3"), "There is no file code/none.py"),
        (("--network", "code/own_layers_nets.py:nothing", "--num-classes", "3"), "has no attribute 'nothing'"),
        (("--network", "code/own_layers_nets.py:broken", "--num-classes", "3"), "RuntimeError: no such layer"),
        (
            ("--network", "code/own_layers_nets.py:number", "--num-classes", "3"),
            "returned a int, not a torch.nn.Module",
        ),
        (("--network", "code/own_layers_nets.py:leave", "--num-classes", "3"), "SystemExit: goodbye"),
        (("--network", "no_such_module:build", "--num-classes", "3"), "No module named 'no_such_module'"),
        (("--network", "a:b", "--architecture", "wrn_28_10", "--num-classes", "3"), "not both"),
        (("--network", "a:b", "--num-classes", "3", "--save-outcomes", "x.txt"), "must end in .parquet or .csv"),
        (("--network", "a:b", "--num-classes", "3", "--save-adversarial", "x.png"), "must end in .npy"),
        (("--network", "a:b", "--num-classes", "3", "--save-outcomes", "none/x.csv"), "there is no folder none"),
    ],
)
def test_what_is_wrong_with_own_code_is_said_in_terms_of_the_option(
    own: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    options: tuple[str, ...],
    message: str,
) -> None:
    """Missing files, names and modules, code that fails and values that are no network end with status 2 and the reason."""
    assert run_faal(monkeypatch, own, "audit", *options, *DATA) == 2
    assert message in capsys.readouterr().err


def test_outcomes_and_adversarial_images_are_written(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both formats have the same rows, one per image, and the images broken there differ from the originals within the radius."""
    radius = ("--epsilon", "0.3")
    command = (
        "audit",
        "--weights",
        "net.safetensors",
        *DATA,
        *radius,
    )
    for images, outcomes in (("x.npy", "images.parquet"), ("y.npy", "images.csv")):
        files = ("--save-adversarial", images, "--save-outcomes", outcomes)
        assert run_faal(monkeypatch, own, *command, *files) == 0
    parquet, csv = pd.read_parquet(own / "images.parquet"), pd.read_csv(own / "images.csv")
    assert list(parquet.columns) == list(csv.columns)
    assert parquet["broken_by"].notna().tolist() == csv["broken_by"].notna().tolist()
    assert parquet["robust"].mean() == read_audit(own).robust.mean.rate
    images, clean = np.load(own / "x.npy"), np.load(own / "rows.npz")["test_images"][:, None] / np.float32(255)
    changes = np.abs(images - clean).max((1, 2, 3))
    assert ((changes > 0) == parquet["broken_by"].notna()).all()
    assert 0 < changes.max() <= 0.3 + 1e-6
    assert np.allclose(changes[changes > 0], parquet["distance"].dropna(), atol=1e-6)


def test_the_report_is_written_before_the_outcomes(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the outcomes cannot be written, the report is there."""

    def fail(*_: object) -> None:
        raise OSError("no space left on the device")

    monkeypatch.setattr("faal_core.results.outcomes.write_columns", fail)
    command = ("audit", "--weights", "net.safetensors", "--save-outcomes", "o.csv", *DATA)
    assert run_faal(monkeypatch, own, *command) != 0
    assert read_audit(own).complete


def test_a_cell_that_a_spreadsheet_would_compute_is_text(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A class name that begins like a formula has an apostrophe before it in a CSV file."""
    arrays = dict(np.load(own / "rows.npz"))
    np.savez(own / "rows.npz", **arrays | {"class_names": np.array(["=1+1", "b", "c"])})
    command = ("audit", "--weights", "net.safetensors", "--save-outcomes", "o.csv", *DATA)
    assert run_faal(monkeypatch, own, *command) == 0
    assert set(pd.read_csv(own / "o.csv")["class"]) == {"'=1+1", "b", "c"}
