"""Read and write a classifier's weights: safetensors, checkpoints of `torch.save`, and networks in ONNX files.

The service stores safetensors and ONNX files.

Files come from strangers. Their content decides their format, and none of their code runs. A process that reads such files
should also have limits on memory and time.
"""

import hashlib
from pathlib import Path
from shutil import copyfile

import torch
from pydantic import ValidationError
from torch import Tensor, nn

from faal_core import networks
from faal_core.catalog.onnx_format import ONNX, is_onnx
from faal_core.classifier import Classifier
from faal_core.errors import ClassifierUnsuitable, InvalidSpec, WeightsMismatch, WeightsUnreadable
from faal_core.specs import ClassifierSpec
from faal_core.specs.classifier import MAX_CHANNELS
from faal_core.specs.field_errors import explain, first_errors
from faal_core.weights.checkpoint_file import check_tensors, read_checkpoint
from faal_core.weights.key_names import arrange, fill, infer_channels, strip_prefix
from faal_core.weights.library_names import rename_published
from faal_core.weights.onnx_network import read_onnx
from faal_core.weights.safetensors_file import read_safetensors, write_safetensors
from faal_core.weights.tensor_tree import TensorTree
from faal_core.weights.weight_sets import select, strip_wrappers

METADATA_KEY = "faal"


def read_classifier(
    path: str | Path, spec: ClassifierSpec | None = None, key: str | None = None, *, network: nn.Module | None = None
) -> Classifier:
    """Return the classifier in `path`, on the CPU and in eval mode.

    Args:
        spec: not needed for files of `write_classifier`. A spec with one mean fits as many channels as the weights take.
        key: the set of weights to read, where the file holds several: `state_dict_ema`, `model.ema` …
        network: the network that takes the weights, instead of one that the catalog builds; `spec` must describe it.

    An ONNX file contains the network. It accepts neither `key` nor `network`, and a spec sets only the normalisation and the
    class names.

    Raises: WeightsUnreadable for a file that holds no weights, is damaged or could run code; WeightsAmbiguous for a file
        with several sets of weights and no matching key; WeightsMismatch where names, shapes or normalisation differ from the
        spec.
    """
    path = Path(path)
    start = _read_start(path)
    if is_onnx(start):
        if key is not None or network is not None:
            raise InvalidSpec(
                "An ONNX file contains the network and one set of weights. Leave out the key and the network."
            )
        return read_onnx(path, spec)
    tree, stored = _read_tensors(path, start)
    if spec is None and stored is None:
        raise WeightsUnreadable(
            "The file does not state its architecture. Name the architecture and its classes.",
            remedy="architecture",
        )
    if spec is not None and stored is not None:
        spec = spec.for_channels(stored.channels).model_copy(
            update={"class_names": spec.class_names or stored.class_names}
        )
        if _describe_network(spec) != _describe_network(stored):
            raise WeightsMismatch(
                f"The file holds weights of {_describe_network(stored)}, but the spec says {_describe_network(spec)}."
            )
    spec, tensors = _fit_to_spec(tree, spec or stored, key, network)  # type: ignore[arg-type]  # at least one is set
    classifier = networks.build(spec) if network is None else Classifier(network, spec).eval()
    fill(classifier, tensors)
    return classifier


def _fit_to_spec(
    tree: TensorTree, spec: ClassifierSpec, key: str | None, own_network: nn.Module | None
) -> tuple[ClassifierSpec, dict[str, Tensor]]:
    """Return the spec with the channels of the weights, and the tensors by the network's names.

    All checks of a network of the catalog use its outline, before it is built. Raises: WeightsUnreadable, WeightsAmbiguous,
        WeightsMismatch, InvalidSpec.
    """
    network = own_network or networks.outline(spec)
    tree = {path: rename_published(strip_wrappers(tensors), network) for path, tensors in tree.items()}
    weights = select(tree, network, key)
    check_tensors(weights.tensors)
    channels = infer_channels(strip_prefix(weights, network), network)
    if spec.channels == 1 and channels is not None and channels <= MAX_CHANNELS:
        spec = spec.for_channels(channels)
        network = own_network or networks.outline(spec)
    return spec, arrange(weights, network, spec)


def write_classifier(path: str | Path, classifier: Classifier) -> None:
    """Write `path`: a safetensors file of the backbone's weights with the spec in its metadata.

    Raises: OSError; InvalidSpec for the network of an ONNX file, which weights alone cannot rebuild.
    """
    if classifier.spec.architecture == ONNX:
        raise InvalidSpec("The network came from an ONNX file. Keep that file: its weights alone cannot rebuild it.")
    _write(Path(path), classifier, METADATA_KEY, classifier.spec.model_dump_json())


def write_copy(path: Path, classifier: Classifier, purpose: str) -> None:
    """Write the weights with a purpose in place of the spec, so that equal weights for other purposes have other digests.

    Raises: OSError.
    """
    _write(path, classifier, "purpose", purpose)


def _write(path: Path, classifier: Classifier, key: str, value: str) -> None:
    """Write the weights, with one entry of metadata: safetensors writes several in random order."""
    weights, storages = _collect_weights(classifier), set[int]()
    for name, tensor in weights.items():
        storage = tensor.untyped_storage().data_ptr()
        if storage in storages:  # safetensors stores no shared memory
            weights[name] = tensor.clone()
        storages.add(storage)
    write_safetensors(path, weights, {key: value})


def convert_checkpoint(source: Path, target: Path, spec: ClassifierSpec, key: str | None = None) -> Classifier:
    """Write the weights in `source` to `target`, as a checked safetensors file with FAAL's key names; return the classifier.

    An ONNX file is checked and copied as it is. Raises: as `read_classifier` and `write_classifier`.
    """
    classifier = read_classifier(source, spec, key)
    if classifier.spec.architecture == ONNX:
        copyfile(source, target)
        return classifier
    write_classifier(target, classifier)
    return classifier


def digest(classifier: Classifier) -> str:
    """Return the SHA-256 over names, types, shapes and values of the backbone's weights, in the order of names.

    The same weights give the same digest on any device, in any memory format and from any file.
    """
    total = hashlib.sha256()
    for name, tensor in sorted(_collect_weights(classifier).items()):
        total.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        total.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())  # NumPy lacks bfloat16
    return total.hexdigest()


def _read_start(path: Path) -> bytes:
    """Return the first bytes, which decide the format. Raises: WeightsUnreadable."""
    try:
        with path.open("rb") as file:
            return file.read(9)
    except OSError as error:
        raise WeightsUnreadable(f"{path} cannot be read: {error.strerror}.") from None


def _read_tensors(path: Path, start: bytes) -> tuple[TensorTree, ClassifierSpec | None]:
    """Return the tensors by mapping and name, and the spec where the file has one. Raises: WeightsUnreadable."""
    if start.startswith(b"PK\x03\x04"):
        return read_checkpoint(path), None
    if start[8:] == b"{":
        tensors, metadata = read_safetensors(path)
        return {"": tensors}, _read_spec(metadata)
    if start.startswith(b"\x80"):
        raise WeightsUnreadable(
            "The file is a bare pickle or a checkpoint of torch before 1.6. These formats are not supported. Convert it: "
            "torch.save(torch.load(path, map_location='cpu', weights_only=True), new_path)."
        )
    raise WeightsUnreadable(
        "The file is neither safetensors nor a checkpoint of torch.save nor an ONNX network. Pass one of these."
    )


def _read_spec(metadata: dict[str, str]) -> ClassifierSpec | None:
    """Return the spec in the metadata, if any. Raises: WeightsUnreadable where it is invalid."""
    if METADATA_KEY not in metadata:
        return None
    try:
        return ClassifierSpec.model_validate_json(metadata[METADATA_KEY])
    except ValidationError as error:
        (first, *_), _ = first_errors(error)
        raise WeightsUnreadable(
            f"The file's description of its network is invalid: {explain(first).removesuffix('.')}."
        ) from None


def _describe_network(spec: ClassifierSpec) -> str:
    """Return the parts of a spec that decide the values of logits, in one line."""
    arguments = "".join(f", {name} {value}" for name, value in networks.resolve_arguments(spec).items())
    return f"{spec.architecture} with {spec.num_classes} classes{arguments}, mean {spec.mean} and std {spec.std}"


def _collect_weights(classifier: Classifier) -> dict[str, Tensor]:
    """Return the backbone's weights by name, on the CPU and in the default memory format.

    Raises: ClassifierUnsuitable where the network's state holds something else than dense tensors.
    """
    weights = classifier.backbone.state_dict()
    for name, value in weights.items():
        if not isinstance(value, Tensor) or value.is_quantized or value.layout is not torch.strided:
            kind = "a special tensor" if isinstance(value, Tensor) else f"a {type(value).__name__}"
            raise ClassifierUnsuitable(
                f"The network's state holds {name}, {kind}, and only dense tensors are supported. Wrap a network without it, "
                "such as the one before quantisation."
            )
    return {name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()}
