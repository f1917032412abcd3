"""Reading and writing a classifier's weights. What is stored is safetensors; checkpoints of `torch.save` are read too.

Files are hostile until shown otherwise: what they are is told by their content, never by their names, and none of their
code runs. A process that reads files from strangers should still have limits on memory and time.
"""

import hashlib
from pathlib import Path

from pydantic import ValidationError
from torch import Tensor

from faal_core import architectures
from faal_core.classifier import Classifier
from faal_core.errors import WeightsMismatch, WeightsUnreadable
from faal_core.specs import ClassifierSpec
from faal_core.weights.checkpoint_file import read_checkpoint
from faal_core.weights.key_names import fit
from faal_core.weights.safetensors_file import read_safetensors, write_safetensors

METADATA_KEY = "faal"


def read_classifier(path: Path, spec: ClassifierSpec | None = None) -> Classifier:
    """The classifier in `path`, on the CPU and in eval mode; `spec` may be absent for files of `write_classifier`.

    Raises: WeightsUnreadable for a file that is no weights, is damaged or could run code; WeightsMismatch where names,
        shapes or normalisation are not those of the spec.
    """
    tensors, stored = _read(path)
    if spec is None and stored is None:
        raise WeightsUnreadable("The file does not say what network it is for; name the architecture and its classes.")
    if spec is not None and stored is not None and _network(spec) != _network(stored):
        raise WeightsMismatch(f"The file was written for {_network(stored)}; asked for is {_network(spec)}.")
    classifier = architectures.build(spec or stored)  # type: ignore[arg-type]  # one of them is there
    fit(tensors, classifier)
    return classifier


def write_classifier(path: Path, classifier: Classifier) -> None:
    """Nothing. Afterwards `path` is a safetensors file of the backbone's weights with the spec in its metadata."""
    # One entry: safetensors writes several in random order.
    metadata = {METADATA_KEY: classifier.spec.model_dump_json()}
    write_safetensors(path, _values(classifier), metadata)


def convert_checkpoint(source: Path, target: Path, spec: ClassifierSpec) -> None:
    """Nothing. Afterwards `target` is the checked safetensors file of the weights in `source`, in our key names.

    Raises: WeightsUnreadable, WeightsMismatch.
    """
    write_classifier(target, read_classifier(source, spec))


def digest(classifier: Classifier) -> str:
    """SHA-256 over names, types, shapes and values of the backbone's weights, in the order of names.

    The same weights give the same digest on any device, in any memory format and from any file.
    """
    total = hashlib.sha256()
    for name, tensor in sorted(_values(classifier).items()):
        total.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        total.update(tensor.numpy().tobytes())
    return total.hexdigest()


def _read(path: Path) -> tuple[dict[str, Tensor], ClassifierSpec | None]:
    """The tensors, and the spec where the file has one."""
    try:
        with path.open("rb") as file:
            start = file.read(9)
    except OSError as error:
        raise WeightsUnreadable(f"{path} cannot be read: {error.strerror}.") from None
    if start.startswith(b"PK\x03\x04"):
        return read_checkpoint(path), None
    if start[8:] == b"{":
        tensors, metadata = read_safetensors(path)
        return tensors, _stored_spec(metadata)
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
    arguments = "".join(f", {name} {value}" for name, value in architectures.arguments(spec).items())
    return f"{spec.architecture} with {spec.num_classes} classes{arguments}, mean {spec.mean} and std {spec.std}"


def _values(classifier: Classifier) -> dict[str, Tensor]:
    """The backbone's weights by name, on the CPU and in the default memory format."""
    return {name: tensor.detach().cpu().contiguous() for name, tensor in classifier.backbone.state_dict().items()}
