"""Networks in ONNX files: the same logits and gradients as the PyTorch network, for any batch size."""

import copy
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnx")

import onnx
import torch
from torch import Tensor, nn

from faal_core.auditing import audit
from faal_core.classifier import Classifier
from faal_core.errors import InvalidSpec, WeightsMismatch, WeightsUnreadable
from faal_core.finetuning import finetune
from faal_core.networks import build
from faal_core.networks.onnx.graph import OnnxNetwork
from faal_core.networks.onnx.table import OPERATORS as TABLE
from faal_core.specs import ClassifierSpec
from faal_core.weights import convert_checkpoint, digest, read_classifier, write_classifier
from tests.onnx_files import (
    CLASSES,
    IMAGE,
    convolutional_network,
    export,
    honest_model,
    honest_nodes,
    honest_weights,
    model,
    node,
    tensor,
)

MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)
SPEC = ClassifierSpec(architecture="onnx", num_classes=CLASSES, mean=MEAN, std=STD)


@pytest.fixture(scope="module")
def onnx_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the file of the small convolutional network, as the exporter simplifies it."""
    return export(convolutional_network(), tmp_path_factory.mktemp("onnx") / "net.onnx")


def save(graph: onnx.ModelProto, folder: Path) -> Path:
    """Write the model, and return its path."""
    path = folder / "made.onnx"
    path.write_bytes(graph.SerializeToString())
    return path


def input_gradient(classifier: nn.Module, x: Tensor) -> Tensor:
    """Return the gradient of the first logit with respect to the images."""
    x = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(classifier(x)[:, 0].sum(), x)
    return gradient


@pytest.mark.parametrize("folded", [True, False])
def test_logits_and_gradients_are_the_networks(folded: bool, tmp_path: Path) -> None:
    """With and without batch-norm folded into convolutions, in batches of one, two and seven images."""
    network = convolutional_network()
    classifier = read_classifier(export(network, tmp_path / "net.onnx", folded=folded), SPEC)
    original = Classifier.wrap(network, num_classes=CLASSES, mean=MEAN, std=STD).eval()
    for count in (1, 2, 7):
        x = torch.rand(count, *IMAGE, generator=torch.Generator().manual_seed(count))
        assert torch.allclose(classifier(x), original(x), atol=1e-5)
        assert torch.allclose(input_gradient(classifier, x), input_gradient(original, x), atol=1e-5)


def test_audits_agree(onnx_file: Path) -> None:
    """An audit of the file has the outcomes of an audit of the network, and names the architecture."""
    images = torch.rand(60, *IMAGE, generator=torch.Generator().manual_seed(3))
    labels = torch.arange(60) % CLASSES
    original = Classifier.wrap(convolutional_network(), num_classes=CLASSES, mean=MEAN, std=STD)
    options = {"epsilon": "2/255", "attacks": "quick", "progress": False}
    results = [audit(one, images, labels, **options) for one in (read_classifier(onnx_file, SPEC), original)]
    assert results[0].report.classifier.spec.architecture == "onnx"
    for kind in ("clean", "robust"):
        assert [getattr(one, kind) for one in results[0].report.classes] == [
            getattr(one, kind) for one in results[1].report.classes
        ]


def test_the_network_is_copied_moved_and_stays_in_eval_mode(onnx_file: Path) -> None:
    """Copies, channels-last layout, double precision and training mode leave the logits as they are."""
    classifier, x = read_classifier(onnx_file, SPEC), torch.rand(3, *IMAGE)
    expected = classifier(x)
    assert torch.allclose(copy.deepcopy(classifier).train()(x), expected, atol=1e-6)
    assert torch.allclose(copy.deepcopy(classifier).place(torch.device("cpu"))(x), expected, atol=1e-5)
    assert torch.allclose(copy.deepcopy(classifier).double()(x.double()), expected, atol=1e-5)
    # Shapes stay on the CPU where torch reads them: the meta device has no values to read.
    assert copy.deepcopy(classifier).to("meta")(x.to("meta")).shape == (3, CLASSES)
    assert classifier.images_in_cache(torch.Size(IMAGE)) == 3072


def test_the_digest_covers_weights_and_graph(onnx_file: Path, tmp_path: Path) -> None:
    """Reading a file twice gives the same digest; another operator or another constant gives another one."""
    assert digest(read_classifier(onnx_file)) == digest(read_classifier(onnx_file))
    step = [node("Slice", "x zero end", "part"), node("Add", "x part", "sum"), node("Flatten", "sum", "f")]
    files = [
        model([*step, node(kind, "f", "g"), node("MatMul", "g weight", "y")], [honest_weights(), *bounds])
        for kind in ("Relu", "Tanh")
        for end in (1, 2)
        for bounds in [[tensor("zero", [0] * 4, "int64"), tensor("end", [99, end * 3, 8, 8], "int64")]]
    ]
    assert len({digest(read_classifier(save(one, tmp_path))) for one in files}) == 4


def test_the_file_states_its_classes(onnx_file: Path) -> None:
    """Without a spec, the logits are counted and images are not normalised; a spec must agree."""
    assert read_classifier(onnx_file).spec == ClassifierSpec(
        architecture="onnx", num_classes=CLASSES, mean=(0.0,) * 3, std=(1.0,) * 3
    )
    for changes, message in [
        ({"num_classes": 7}, "has 5 logits; the spec says 7 classes"),
        ({"mean": (0.5, 0.5), "std": (0.5, 0.5)}, "images of 3 channels; mean and std have 2"),
        ({"architecture": "small_resnet"}, "the spec says small_resnet. Use onnx"),
    ]:
        with pytest.raises(WeightsMismatch, match=message):
            read_classifier(onnx_file, SPEC.model_copy(update=changes))
    with pytest.raises(InvalidSpec, match="Leave out the key"):
        read_classifier(onnx_file, key="ema")


def test_a_fixed_batch_is_accepted_where_the_graph_allows_it(tmp_path: Path) -> None:
    """A file for one image at a time is converted for any batch; one for four images keeps its batch and is refused."""
    network = convolutional_network()
    classifier = read_classifier(export(network, tmp_path / "one.onnx", batch=1), SPEC)
    x = torch.rand(4, *IMAGE)
    assert torch.allclose(classifier.backbone(x), network(x), atol=1e-5)
    with pytest.raises(WeightsUnreadable, match="Export it for any batch size"):
        read_classifier(export(network, tmp_path / "four.onnx", batch=4))


def test_images_of_another_size_are_refused(onnx_file: Path) -> None:
    """The message states the size that the file takes."""
    with pytest.raises(ValueError, match="takes images of 3 × 8 × 8"):
        read_classifier(onnx_file)(torch.rand(2, 3, 16, 16))


def test_a_wrong_conversion_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A network whose logits, gradients or finiteness are not the file's is refused."""
    path = save(honest_model(), tmp_path)
    forward = OnnxNetwork.forward
    for wrong, message in [
        (lambda net, x: forward(net, x) * 1.001, "logits differ by a relative 0.001"),
        (
            lambda net, x: forward(net, x) + 2e-4 * forward(net, x).abs().amax().clamp(min=1),
            "logits differ by a relative 0.0002",
        ),
        (lambda net, x: forward(net, x).detach() + x.sum((1, 2, 3))[:, None] * 0, "input gradients deviate"),
        (lambda net, x: forward(net, x).detach(), "no gradient flows"),
        (lambda net, x: forward(net, x) / 0, "not finite"),
    ]:
        monkeypatch.setattr(OnnxNetwork, "forward", wrong)
        with pytest.raises(WeightsUnreadable, match=message):
            read_classifier(path)


def test_onnxruntime_is_the_judge_and_runs_the_file_as_written(tmp_path: Path) -> None:
    """A graph that onnxruntime does not accept is refused, with its message."""
    graph = honest_model()
    graph.graph.node[1].output[0] = "logits"
    graph.graph.node.append(node("Add", "logits one", "y"))
    graph.graph.initializer.append(tensor("one", [1], "int64"))
    with pytest.raises(WeightsUnreadable, match="onnxruntime does not accept"):
        read_classifier(save(graph, tmp_path))


def test_audits_only(onnx_file: Path, tmp_path: Path) -> None:
    """Fine-tuning, writing as safetensors and building by name are refused; a copy of the file is the stored form."""
    classifier = read_classifier(onnx_file, SPEC)
    images, labels = torch.rand(20, *IMAGE), torch.arange(20) % CLASSES
    with pytest.raises(InvalidSpec, match="audited but not fine-tuned"):
        finetune(classifier, (images, labels), (images, labels), epsilon="2/255", progress=False)
    with pytest.raises(InvalidSpec, match="Keep that file"):
        write_classifier(tmp_path / "weights.safetensors", classifier)
    with pytest.raises(InvalidSpec, match="Pass the file"):
        build(SPEC)
    assert convert_checkpoint(onnx_file, tmp_path / "stored", SPEC).spec == SPEC
    assert (tmp_path / "stored").read_bytes() == onnx_file.read_bytes()


def test_a_missing_package_is_named(onnx_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without onnx or onnxruntime, the error names the extra."""
    for package in ("onnxruntime", "onnx"):
        monkeypatch.setitem(__import__("sys").modules, package, None)
        with pytest.raises(InvalidSpec, match=rf"need the package {package}, .*faal\[onnx\]"):
            read_classifier(onnx_file)


OPERATORS = {
    "pools": [
        node("MaxPool", "x", "a", kernel_shape=[3, 3], strides=[2, 2], pads=[0, 0, 1, 1]),
        node("AveragePool", "a", "b", kernel_shape=[2, 2], auto_pad="SAME_UPPER"),
        node(
            "AveragePool",
            "b",
            "c",
            kernel_shape=[3, 3],
            pads=[1, 1, 1, 1],
            count_include_pad=1,
            ceil_mode=1,
            strides=[2, 2],
        ),
        node("Flatten", "c", "d"),
        node("MatMul", "d w27", "y"),
    ],
    "activations": [
        node("LeakyRelu", "x", "a", alpha=0.1),
        node("Selu", "a", "b"),
        node("Celu", "b", "c", alpha=0.7),
        node("HardSigmoid", "c", "d", alpha=0.3),
        node("Mish", "d", "e"),
        node("Softplus", "e", "f"),
        node("PRelu", "f slope", "g"),
        node("Clip", "g low high", "h"),
        node("Flatten", "h", "i"),
        node("MatMul", "i weight", "y"),
    ],
    "shapes": [
        node("Shape", "x", "s", start=0, end=1),
        node("Concat", "s rest", "t", axis=0),
        node("Reshape", "x t", "a"),
        node("Slice", "a minus_one minus_many two minus_one", "b"),
        node("Pad", "b pads", "c", mode="edge"),
        node("Gather", "c order", "d", axis=2),
        node("Flatten", "d", "e"),
        node("MatMul", "e w198", "y"),
    ],
    "norms": [
        node("InstanceNormalization", "x scale shift", "a"),
        node("Transpose", "a", "b", perm=[0, 2, 3, 1]),
        node("LayerNormalization", "b scale shift", "c", epsilon=1e-3),
        node("ReduceL2", "c axes", "d", keepdims=0),
        node("LogSoftmax", "d", "e"),
        node("ReduceSumSquare", "e two", "f", keepdims=0),
        node("Einsum", "f w8", "y", equation="nh,hk->nk"),
    ],
}


@pytest.mark.parametrize("name", OPERATORS)
def test_operators_agree_with_onnxruntime(name: str, tmp_path: Path) -> None:
    """Operators that torch's exporter rarely writes are computed as onnxruntime does; reading compares both."""
    random = np.random.default_rng(1)
    rest = {
        "rest": [3, 64],
        "minus_one": [-1],
        "minus_many": [-99],
        "two": [2],
        "axes": [-1],
        "pads": [0, 0, 1, 0, 0, 1],
    }
    initializers = [honest_weights(), *(tensor(key, value, "int64") for key, value in rest.items())]
    initializers += [
        tensor(key, random.normal(size=size)) for key, size in {"w27": (27, CLASSES), "w198": (198, CLASSES)}.items()
    ]
    initializers += [tensor("order", [*range(65), -1], "int64"), tensor("w8", random.normal(size=(8, CLASSES)))]
    initializers += [tensor("slope", random.normal(size=(3, 1, 1))), tensor("low", 0.1), tensor("high", 2.0)]
    initializers += [tensor("scale", [1.0, 2.0, 0.5]), tensor("shift", [0.0, 1.0, 2.0])]
    classifier = read_classifier(save(model(OPERATORS[name], initializers), tmp_path))
    assert classifier.num_classes == CLASSES


def test_the_guide_lists_the_operators() -> None:
    """The page on ONNX lists the operators of the table, and Constant, which is read with the constants."""
    page = Path(__file__).parents[4] / "docs/how-to/onnx.md"
    listed = page.read_text("utf-8").partition("## Operators\n")[2].replace("\n", " ").strip().rstrip(".").split(", ")
    assert set(listed) == {*TABLE, "Constant"}


def test_honest_nodes_are_read(tmp_path: Path) -> None:
    """The file that the hostile ones alter is read as it is, under any name and from a read-only folder."""
    path = save(model(honest_nodes(), [honest_weights()]), tmp_path)
    path.chmod(0o400)
    assert read_classifier(path).num_classes == CLASSES
