"""Reading and writing a classifier's weights. What is stored is safetensors; checkpoints of `torch.save` are read too.

Files are hostile until shown otherwise: what they are is told by their content, never by their names, and none of their
code runs. A process that reads files from strangers should still have limits on memory and time.
"""

import hashlib
from pathlib import Path

from pydantic import ValidationError
from torch import Tensor

from faal_core import networks
from faal_core.classifier import Classifier
from faal_core.errors import WeightsMismatch, WeightsUnreadable
from faal_core.specs import ClassifierSpec
from faal_core.specs.classifier import MAX_CHANNELS
from faal_core.weights.checkpoint_file import check_tensors, read_checkpoint
from faal_core.weights.key_names import arrange, channels_of, fill, own_names
from faal_core.weights.library_names import names_as_published
from faal_core.weights.safetensors_file import read_safetensors, write_safetensors
from faal_core.weights.tensor_tree import TensorTree
from faal_core.weights.weight_sets import select, unwrapped

METADATA_KEY = "faal"


def read_classifier(path: Path, spec: ClassifierSpec | None = None, key: str | None = None) -> Classifier:
    """The classifier in `path`, on the CPU and in eval mode; `spec` may be absent for files of `write_classifier`.

    A spec of one mean serves as many channels as the weights take.

    Args:
        key: of the set of weights to read, where the file holds several: `state_dict_ema`, `model.ema` …

    Raises: WeightsUnreadable for a file that is no weights, is damaged or could run code; WeightsAmbiguous for one that
        holds several sets of weights and no key says which; WeightsMismatch where names, shapes or normalisation are not
        those of the spec.
    """
    tree, stored = _read(path)
    if spec is None and stored is None:
        raise WeightsUnreadable(
            "The file does not say what network it is for; name the architecture and its classes.",
            remedy="architecture",
        )
    if spec is not None and stored is not None:
        spec = spec.for_channels(stored.channels).model_copy(
            update={"class_names": spec.class_names or stored.class_names}
        )
        if _network(spec) != _network(stored):
            raise WeightsMismatch(f"The file was written for {_network(stored)}; asked for is {_network(spec)}.")
    spec, tensors = _fitting(tree, spec or stored, key)  # type: ignore[arg-type]  # one of them is there
    classifier = networks.build(spec)
    fill(classifier, tensors)
    return classifier


def _fitting(tree: TensorTree, spec: ClassifierSpec, key: str | None) -> tuple[ClassifierSpec, dict[str, Tensor]]:
    """The spec with the channels of the weights, and the tensors by the network's names, judged before it is built."""
    network = networks.outline(spec)
    tree = {path: names_as_published(unwrapped(tensors), network) for path, tensors in tree.items()}
    weights = select(tree, network, key)
    check_tensors(weights.tensors)
    channels = channels_of(own_names(weights, network), network)
    if spec.channels == 1 and channels is not None and channels <= MAX_CHANNELS:
        spec = spec.for_channels(channels)
        network = networks.outline(spec)
    return spec, arrange(weights, network, spec)


def write_classifier(path: Path, classifier: Classifier) -> None:
    """Write `path`: a safetensors file of the backbone's weights with the spec in its metadata."""
    # One entry: safetensors writes several in random order.
    metadata = {METADATA_KEY: classifier.spec.model_dump_json()}
    write_safetensors(path, _values(classifier), metadata)


def convert_checkpoint(source: Path, target: Path, spec: ClassifierSpec, key: str | None = None) -> Classifier:
    """Write the weights in `source` to `target`, as a checked safetensors file in our key names; return what was read.

    Raises: as `read_classifier`.
    """
    classifier = read_classifier(source, spec, key)
    write_classifier(target, classifier)
    return classifier


def digest(classifier: Classifier) -> str:
    """SHA-256 over names, types, shapes and values of the backbone's weights, in the order of names.

    The same weights give the same digest on any device, in any memory format and from any file.
    """
    total = hashlib.sha256()
    for name, tensor in sorted(_values(classifier).items()):
        total.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        total.update(tensor.numpy().tobytes())
    return total.hexdigest()


def _read(path: Path) -> tuple[TensorTree, ClassifierSpec | None]:
    """The tensors by mapping and name, and the spec where the file has one."""
    try:
        with path.open("rb") as file:
            start = file.read(9)
    except OSError as error:
        raise WeightsUnreadable(f"{path} cannot be read: {error.strerror}.") from None
    if start.startswith(b"PK\x03\x04"):
        return read_checkpoint(path), None
    if start[8:] == b"{":
        tensors, metadata = read_safetensors(path)
        return {"": tensors}, _stored_spec(metadata)
    if start.startswith(b"\x80"):
        raise WeightsUnreadable(
            "The file is a bare pickle or a checkpoint of torch before 1.6. These formats are refused; save it anew: "
            "torch.save(torch.load(path, map_location='cpu', weights_only=True), new_path)."
        )
    raise WeightsUnreadable("The file is neither safetensors nor a checkpoint of torch.save.")


def _stored_spec(metadata: dict[str, str]) -> ClassifierSpec | None:
    """The spec in the metadata, if any. Raises: WeightsUnreadable where it is not one."""
    if METADATA_KEY not in metadata:
        return None
    try:
        return ClassifierSpec.model_validate_json(metadata[METADATA_KEY])
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise WeightsUnreadable(f"The file's description of its network is invalid: {first['msg']}.") from None


def _network(spec: ClassifierSpec) -> str:
    """What of a spec decides the values of logits, in one line."""
    arguments = "".join(f", {name} {value}" for name, value in networks.arguments(spec).items())
    return f"{spec.architecture} with {spec.num_classes} classes{arguments}, mean {spec.mean} and std {spec.std}"


def _values(classifier: Classifier) -> dict[str, Tensor]:
    """The backbone's weights by name, on the CPU and in the default memory format."""
    return {name: tensor.detach().cpu().contiguous() for name, tensor in classifier.backbone.state_dict().items()}
