"""The command `faal audit` on a network in an ONNX file."""

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnx")

from faal_core.results.reading import read_report
from tests.command_line import AUDIT, FINETUNE, fill, run_faal
from tests.onnx_files import model, node, tensor

NET = ("--weights", "net.onnx", "--epsilon", "8/255")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with an ONNX network and a data set for it."""
    fill(tmp_path)
    weight = tensor("weight", np.random.default_rng(0).normal(size=(144, 3)))
    nodes = [node("Flatten", "x", "flat"), node("MatMul", "flat weight", "y")]
    content = model(nodes, [weight], shape=["n", 1, 12, 12]).SerializeToString()
    (tmp_path / "net.onnx").write_bytes(content)
    return tmp_path


def test_an_onnx_network_is_audited(folder, monkeypatch):
    """The classes are counted, and the normalisation comes from the options."""
    assert run_faal(monkeypatch, folder, *AUDIT, *NET, "--mean", "0.5", "--std", "0.25") == 0
    spec = read_report((folder / "out/report.json").read_text()).classifier.spec
    assert (spec.architecture, spec.num_classes, spec.mean, spec.std) == ("onnx", 3, (0.5,), (0.25,))


@pytest.mark.parametrize(
    ("command", "options", "message"),
    [
        (AUDIT, ("--num-classes", "4"), "3 logits; the spec says 4 classes"),
        (AUDIT, ("--mean", "0.5,0.5", "--std", "1,1"), "images of 1 channels; mean and std have 2"),
        (AUDIT, ("--architecture", "small_resnet", "--num-classes", "3"), "the spec says small_resnet. Use onnx"),
        (AUDIT, ("--weights-key", "ema"), "Leave out the key and the network"),
        (FINETUNE, (), "audited but not fine-tuned"),
    ],
)
def test_what_does_not_fit_is_refused(folder, monkeypatch, capsys, command, options, message):
    """Each contradiction ends the command with one line."""
    assert run_faal(monkeypatch, folder, *command, *NET, *options) != 0
    assert message in capsys.readouterr().err
