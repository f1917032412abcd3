"""Parts of an ONNX file that its output does not need, and what the digest covers."""

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnx")

import onnx

from faal_core.weights import digest, read_classifier
from tests.onnx_files import honest_model, honest_weights, model, node, tensor


def save(graph: onnx.ModelProto, folder: Path) -> Path:
    """Write the model, and return its path."""
    path = folder / "made.onnx"
    path.write_bytes(graph.SerializeToString())
    return path


def test_the_digest_covers_the_output(tmp_path: Path) -> None:
    """Two files of the same nodes and constants with different outputs have different digests."""
    digests = set()
    for output in ("logits", "y"):
        made = model(
            [node("Flatten", "x", "f"), node("MatMul", "f weight", "logits"), node("Neg", "logits", "y")],
            [honest_weights()],
        )
        made.graph.output[0].name = output
        digests.add(digest(read_classifier(save(made, tmp_path))))
    assert len(digests) == 2


def test_what_the_output_does_not_need_is_neither_run_nor_hashed(tmp_path: Path) -> None:
    """A dead branch that would take 64 GB is left out for onnxruntime, and leaves the digest as it is."""
    dead = [node("ConstantOfShape", "size", "large"), node("Exp", "large", "larger")]
    made = honest_model(*dead, initializers=[tensor("size", [2**34], "int64")])
    assert len(made.graph.node) == 4
    expected = digest(read_classifier(save(honest_model(), tmp_path)))
    assert digest(read_classifier(save(made, tmp_path))) == expected


def test_weights_in_a_list_of_numbers_are_read(tmp_path: Path) -> None:
    """Weights as `float_data`, as some exporters write them, are those of the raw bytes."""
    made = honest_model()
    weight = made.graph.initializer[0]
    weight.float_data.extend(np.frombuffer(weight.raw_data, "f4").tolist())
    weight.ClearField("raw_data")
    expected = digest(read_classifier(save(honest_model(), tmp_path)))
    assert digest(read_classifier(save(made, tmp_path))) == expected
