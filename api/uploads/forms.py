"""Check the type of an uploaded file and the fields of its form before the upload is registered.

This module reads only the first bytes of the file and a safetensors header; later, a worker checks the whole file.
"""

import json
import re
from pathlib import PurePath
from typing import NamedTuple

from pydantic import JsonValue, TypeAdapter, ValidationError

from api.problems.errors import InvalidRequest, UnsupportedFile
from api.schemas.requests import Name
from api.uploads.upload_reader import HEAD, UploadedForm
from faal_client.resources.problems import FieldError
from faal_core.catalog import onnx_format
from faal_core.errors import WeightsUnreadable
from faal_core.specs import ClassifierSpec
from faal_core.specs.field_errors import shorten
from jobs.model_registry import WEIGHTS_TYPE

CHECKPOINT, ARCHIVE = "application/vnd.pytorch", "application/zip"
_ZIP = b"PK\x03\x04"
_SPEC_FIELDS = ("architecture", "num_classes", "mean", "std", "class_names", "arguments")
_KEY = re.compile(r"[^\x00-\x1f\x7f]{1,1000}")
_NAME: TypeAdapter[str] = TypeAdapter(Name)
_JSON: TypeAdapter[JsonValue] = TypeAdapter(JsonValue)


def detect_model_type(head: bytes) -> str:
    """Return the media type of uploaded weights by their first bytes. Raises: UnsupportedFile."""
    if head.startswith(_ZIP):
        return CHECKPOINT
    if onnx_format.is_onnx(head):
        return onnx_format.MEDIA_TYPE
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") <= HEAD - 8:
        return WEIGHTS_TYPE
    raise UnsupportedFile(
        "The file is neither safetensors, with a header of at most 1 MiB, nor a zip file of torch.save, nor an ONNX network. "
        "Save the weights with safetensors.torch.save_file(network.state_dict(), path)."
    )


def detect_dataset_type(head: bytes) -> str:
    """Return the media type of an uploaded data set by its first bytes. Raises: UnsupportedFile."""
    if head.startswith(_ZIP):
        return ARCHIVE
    raise UnsupportedFile(
        "The file is neither an .npz file nor a zip archive of class folders. Pack the images as one of the two."
    )


class ModelForm(NamedTuple):
    """The form of an uploaded model: its name, its spec, and the key of its weights in a file with several sets."""

    name: str
    spec: ClassifierSpec
    weights_key: str | None


def read_model_form(form: UploadedForm) -> ModelForm:
    """Return the name of an uploaded model, its spec, and the key of its weights or None.

    The spec is in the field `spec` as JSON, in its single fields, or in the metadata of a safetensors file that FAAL wrote.

    Raises: InvalidRequest for fields that are unknown, missing or wrong, WeightsUnreadable for a damaged header.
    """
    fields = {name: value for name, value in form.fields.items() if value.strip()}
    _require_known(fields, "name", "spec", *_SPEC_FIELDS, "weights_key")
    single = {name: value for name, value in fields.items() if name in _SPEC_FIELDS}
    if "spec" in fields and single:
        raise InvalidRequest.for_field(
            f"/{next(iter(single))}", "the form has both spec and single fields of it; send one of the two"
        )
    if "spec" in fields:
        spec = _read_spec(_parse("/spec", fields["spec"]), "/spec")
    elif single:
        inferred: dict[str, JsonValue] = {"architecture": onnx_format.ONNX} if onnx_format.is_onnx(form.head) else {}
        spec = _read_spec(inferred | {name: _parse_field(name, value) for name, value in single.items()}, "")
    else:
        spec = _read_header_spec(form.head)
    if spec.needs_own_code:
        raise InvalidRequest.for_field(
            "/architecture",
            f"{spec.architecture} is code outside the catalog, which the service does not run; audit it with the library, or ask "
            "the service's administrator to add the network to the catalog",
        )
    if (spec.architecture == onnx_format.ONNX) is not onnx_format.is_onnx(form.head):
        raise InvalidRequest.for_field(
            "/architecture",
            f"{onnx_format.ONNX} is the architecture of ONNX files and of no others; send the architecture of this file",
        )
    key = fields.get("weights_key", "").strip() or None
    if key is not None and not _KEY.fullmatch(key):
        raise InvalidRequest.for_field(
            "/weights_key",
            f"a key has at most 1,000 characters and no control characters, and this one has {len(key):,}; send a valid key",
        )
    if key is not None and spec.architecture == onnx_format.ONNX:
        raise InvalidRequest.for_field("/weights_key", "an ONNX file has no keys of weights; leave the key out")
    return ModelForm(_read_name(fields, form.filename, spec.architecture), spec, key)


def read_dataset_form(form: UploadedForm) -> str:
    """Return the name of an uploaded data set. Raises: InvalidRequest for fields that are unknown or wrong."""
    fields = {name: value for name, value in form.fields.items() if value.strip()}
    _require_known(fields, "name")
    return _read_name(fields, form.filename, "data set")


def _require_known(fields: dict[str, str], *known: str) -> None:
    if unknown := [name for name in fields if name not in known]:
        details = [
            FieldError(pointer=f"/{name}", detail=f"there is no such field; use file, {', '.join(known)}")
            for name in unknown
        ]
        raise InvalidRequest(
            f"The form has unknown fields: {', '.join(unknown)}. Use file, {', '.join(known)}.", *details
        )


def _read_name(fields: dict[str, str], filename: str, default: str) -> str:
    """Return the name in the form, or else the file's name without its ending, or else `default`."""
    if "name" in fields:
        try:
            return _NAME.validate_python(fields["name"].strip())
        except ValidationError as error:
            raise InvalidRequest.from_pydantic(error, fields["name"], "/name") from None
    stem = "".join(sign for sign in PurePath(filename.replace("\\", "/")).stem if sign.isprintable()).strip()
    return stem[:200] or default


def _read_spec(content: JsonValue, root: str) -> ClassifierSpec:
    try:
        return ClassifierSpec.model_validate(content)
    except ValidationError as error:
        raise InvalidRequest.from_pydantic(error, content, root) from None


def _parse_field(name: str, value: str) -> JsonValue:
    """Return a single field as JSON; a list may be written with commas."""
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
        raise InvalidRequest.for_field(
            pointer, f"{shorten(text, 60)!r} is not JSON ({error.errors()[0]['msg']}); correct it"
        ) from None


def _read_header_spec(head: bytes) -> ClassifierSpec:
    """Return the spec in the metadata of a safetensors file that FAAL wrote.

    Source: https://github.com/huggingface/safetensors#format
    """
    missing = InvalidRequest.for_field(
        "/spec", "the file does not contain the spec of its network; name at least architecture and num_classes"
    )
    if head.startswith(_ZIP) or onnx_format.is_onnx(head):
        raise missing
    length = int.from_bytes(head[:8], "little")
    try:
        metadata = json.loads(head[8 : 8 + length]).get("__metadata__", {})
        written = metadata.get("faal")
    except (ValueError, AttributeError, RecursionError):
        raise WeightsUnreadable(
            "The safetensors header of the file is damaged. Save the weights again and upload the new file."
        ) from None
    if written is None:
        raise missing
    return _read_spec(_parse("/spec", str(written)), "/spec")
