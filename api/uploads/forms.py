"""What an upload may be and what its form says, judged before anything of it is kept.

Only first bytes and a safetensors header are looked at here; whether the file is what it says, a worker's check tells.
"""

import json
import re
from pathlib import PurePath
from typing import NamedTuple

from pydantic import JsonValue, TypeAdapter, ValidationError

from api.problems.errors import FieldError, InvalidRequest, UnsupportedFile
from api.schemas.resources import Name
from api.uploads.receiving import HEAD, Form
from faal_core.errors import WeightsUnreadable
from faal_core.specs import ClassifierSpec

SAFETENSORS, CHECKPOINT, ARCHIVE = "application/vnd.safetensors", "application/vnd.pytorch", "application/zip"
_ZIP = b"PK\x03\x04"
_SPEC_FIELDS = ("architecture", "num_classes", "mean", "std", "class_names", "arguments")
_KEY = re.compile(r"[^\x00-\x1f\x7f]{1,1000}")
_NAME: TypeAdapter[str] = TypeAdapter(Name)
_JSON: TypeAdapter[JsonValue] = TypeAdapter(JsonValue)


def model_media_type(head: bytes) -> str:
    """The media type of uploaded weights by their first bytes. Raises: UnsupportedFile."""
    if head.startswith(_ZIP):
        return CHECKPOINT
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") <= HEAD - 8:
        return SAFETENSORS
    raise UnsupportedFile(
        "The file is neither safetensors, with a header of at most 1 MiB, nor a zip file of torch.save. "
        "Save the weights with safetensors.torch.save_file(network.state_dict(), path)."
    )


def dataset_media_type(head: bytes) -> str:
    """The media type of an uploaded data set by its first bytes. Raises: UnsupportedFile."""
    if head.startswith(_ZIP):
        return ARCHIVE
    raise UnsupportedFile("The file is neither an .npz file nor a zip archive of class folders.")


class ModelForm(NamedTuple):
    """An uploaded model: its name, what network it is, and which of several sets of weights is meant."""

    name: str
    spec: ClassifierSpec
    weights_key: str | None


def read_model_form(form: Form) -> ModelForm:
    """The name of an uploaded model, what it is, and the key of its weights, if one was given.

    What it is says the field `spec` as JSON, or its fields one by one, or the metadata of a safetensors file of ours.

    Raises: InvalidRequest for fields that are unknown, missing or wrong, WeightsUnreadable for a damaged header.
    """
    fields = {name: value for name, value in form.fields.items() if value.strip()}
    _only_known(fields, "name", "spec", *_SPEC_FIELDS, "weights_key")
    single = {name: value for name, value in fields.items() if name in _SPEC_FIELDS}
    if "spec" in fields and single:
        raise InvalidRequest.at(f"/{next(iter(single))}", "give either spec or its single fields")
    if "spec" in fields:
        spec = _spec(_parse("/spec", fields["spec"]), "/spec")
    elif single:
        spec = _spec({name: _field_value(name, value) for name, value in single.items()}, "")
    else:
        spec = _spec_in_header(form.head)
    key = fields.get("weights_key", "").strip() or None
    if key is not None and not _KEY.fullmatch(key):
        raise InvalidRequest.at("/weights_key", "a key has at most 1,000 characters and no control characters")
    return ModelForm(_name(fields, form.filename, spec.architecture), spec, key)


def read_dataset_form(form: Form) -> str:
    """The name of an uploaded data set. Raises: InvalidRequest for fields that are unknown or wrong."""
    fields = {name: value for name, value in form.fields.items() if value.strip()}
    _only_known(fields, "name")
    return _name(fields, form.filename, "data set")


def _only_known(fields: dict[str, str], *known: str) -> None:
    if unknown := [name for name in fields if name not in known]:
        details = [
            FieldError(pointer=f"/{name}", detail=f"the form has no such field; it has file, {', '.join(known)}")
            for name in unknown
        ]
        raise InvalidRequest(f"Unknown fields: {', '.join(unknown)}", *details)


def _name(fields: dict[str, str], filename: str, otherwise: str) -> str:
    """The name that was given, else the file's without its ending, where it can be shown."""
    if "name" in fields:
        try:
            return _NAME.validate_python(fields["name"].strip())
        except ValidationError as error:
            raise InvalidRequest.of(error, fields["name"], "/name") from None
    stem = "".join(sign for sign in PurePath(filename.replace("\\", "/")).stem if sign.isprintable()).strip()
    return stem[:200] or otherwise


def _spec(content: JsonValue, root: str) -> ClassifierSpec:
    try:
        return ClassifierSpec.model_validate(content)
    except ValidationError as error:
        raise InvalidRequest.of(error, content, root) from None


def _field_value(name: str, value: str) -> JsonValue:
    """A single field as JSON: lists may be written with commas alone."""
    if name == "arguments":
        return _parse("/arguments", value)
    if name in ("mean", "std", "class_names"):
        return (
            _parse(f"/{name}", value) if value.lstrip().startswith("[") else [item.strip() for item in value.split(",")]
        )
    return value.strip()


def _parse(pointer: str, text: str) -> JsonValue:
    try:
        return _JSON.validate_json(text)
    except ValidationError as error:
        raise InvalidRequest.at(pointer, f"this is not JSON ({error.errors()[0]['msg']})") from None


def _spec_in_header(head: bytes) -> ClassifierSpec:
    """What a safetensors file of ours says of itself in its metadata.

    Source: https://github.com/huggingface/safetensors#format
    """
    missing = InvalidRequest.at(
        "/spec", "the file does not say what network it is for; name at least architecture and num_classes"
    )
    if head.startswith(_ZIP):
        raise missing
    length = int.from_bytes(head[:8], "little")
    try:
        metadata = json.loads(head[8 : 8 + length]).get("__metadata__", {})
        written = metadata.get("faal")
    except (ValueError, AttributeError, RecursionError):
        raise WeightsUnreadable("The safetensors header is damaged.") from None
    if written is None:
        raise missing
    return _spec(_parse("/spec", str(written)), "/spec")
