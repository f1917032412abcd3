"""Read a classifier from an ONNX file: the file is the network, and its description is a spec with the architecture `onnx`."""

from pathlib import Path

from faal_core.catalog.onnx_format import ONNX
from faal_core.classifier import Classifier
from faal_core.errors import WeightsMismatch, WeightsUnreadable
from faal_core.networks.onnx.graph import OnnxNetwork, build_network
from faal_core.specs import ClassifierSpec
from faal_core.weights.onnx_check import check_conversion
from faal_core.weights.onnx_file import read_graph

_ANY_BATCH = (
    "The file has a fixed batch size. Export it for any batch size: torch.onnx.export(…, "
    "dynamic_shapes=({0: torch.export.Dim('batch')},))."
)


def read_onnx(path: Path, spec: ClassifierSpec | None = None) -> Classifier:
    """Return the network in an ONNX file, on the CPU and in eval mode, after a check against onnxruntime.

    Args:
        spec: without it, the number of classes is the number of logits, and images are not normalised.
    Raises: WeightsUnreadable for a file that is damaged, hostile or not supported; WeightsMismatch where it does not fit the
        spec; InvalidSpec where onnx or onnxruntime is not installed; OutOfMemory.
    """
    graph, content = read_graph(path)
    try:
        network = build_network(graph)
        num_classes = check_conversion(network, graph, content)
    except WeightsUnreadable as error:
        if graph.batch is None:
            raise
        raise WeightsUnreadable(f"{error.message} {_ANY_BATCH}") from error
    return describe_onnx(network, spec or _make_spec(num_classes), num_classes)


def describe_onnx(network: OnnxNetwork, spec: ClassifierSpec, num_classes: int) -> Classifier:
    """Return an ONNX network with that many logits as the classifier that the spec describes. Raises: WeightsMismatch."""
    channels = network.image_shape[0]
    spec = spec.for_channels(channels)
    if spec.architecture != ONNX:
        raise WeightsMismatch(f"The file is an ONNX network, but the spec says {spec.architecture}. Use {ONNX}.")
    if spec.num_classes != num_classes:
        raise WeightsMismatch(f"The ONNX network has {num_classes} logits; the spec says {spec.num_classes} classes.")
    if spec.channels != channels:
        raise WeightsMismatch(
            f"The ONNX network takes images of {channels} channels; mean and std have {spec.channels} values."
        )
    return Classifier(network, spec).eval()


def _make_spec(num_classes: int) -> ClassifierSpec:
    """Return the spec of a network that normalises its images itself. Raises: WeightsMismatch for a single logit."""
    if num_classes < 2:
        raise WeightsMismatch("The ONNX network has one logit; a classifier has one for each class, at least two.")
    return ClassifierSpec(architecture=ONNX, num_classes=num_classes)
