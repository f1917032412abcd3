"""The kinds and fields of uploads, by their first bytes and their form."""

import json
import struct
from typing import Any

import pytest

from api.problems.errors import InvalidRequest, UnsupportedFile
from api.uploads.forms import detect_dataset_type, detect_model_type, read_dataset_form, read_model_form
from api.uploads.upload_reader import UploadedForm
from faal_core.errors import WeightsUnreadable
from faal_core.specs import ClassifierSpec

ZIP = b"PK\x03\x04" + bytes(12)
ONNX = b"\x08\x0a\x12\x07pytorch"
SPEC = ClassifierSpec(architecture="small_resnet", num_classes=3, mean=(0.2,), std=(0.3,), class_names=("a", "b", "c"))


def safetensors(metadata: dict[str, str] | None = None) -> bytes:
    """Return the beginning of a safetensors file with that metadata."""
    header = json.dumps({} if metadata is None else {"__metadata__": metadata}).encode()
    return struct.pack("<Q", len(header)) + header


def form(head: bytes = ZIP, filename: str = "weights.pt", **fields: str) -> UploadedForm:
    """Return a form with those fields."""
    return UploadedForm(fields, filename, head)


def pointers(error: pytest.ExceptionInfo[InvalidRequest]) -> list[str | None]:
    """Return the fields that the error points to."""
    return [field.pointer for field in error.value.fields]


def test_kinds_of_files_are_told_by_their_first_bytes() -> None:
    """Weights are safetensors or zip files, data sets are zip files; a header that claims more than 1 MiB is no header."""
    assert detect_model_type(safetensors()) != detect_model_type(ZIP)
    assert detect_dataset_type(ZIP) == "application/zip"
    for head in (b"\x80\x02}q\x00.", b"", b"GIF89a" + bytes(10), struct.pack("<Q", 2**20 + 1) + b"{"):
        with pytest.raises(UnsupportedFile):
            detect_model_type(head)
    with pytest.raises(UnsupportedFile):
        detect_dataset_type(safetensors())
    assert detect_model_type(ONNX) == "application/onnx"


@pytest.mark.parametrize(
    "fields",
    [
        {"spec": SPEC.model_dump_json()},
        {"architecture": "small_resnet", "num_classes": "3", "mean": "0.2", "std": "0.3", "class_names": "a, b, c"},
        {
            "architecture": "small_resnet",
            "num_classes": "3",
            "mean": "[0.2]",
            "std": "0.3",
            "class_names": '["a","b","c"]',
        },
    ],
)
def test_a_spec_is_given_whole_or_field_by_field(fields: dict[str, str]) -> None:
    """A spec means the same as JSON in one field and as single fields in plain text."""
    assert read_model_form(form(**fields)) == ("weights", SPEC, None)


def test_the_architecture_of_an_onnx_file_is_inferred() -> None:
    """An ONNX file needs its classes alone; another architecture, a key, or `onnx` for other files is refused."""
    for fields in ({}, {"architecture": "onnx"}):
        assert read_model_form(form(ONNX, num_classes="3", **fields)).spec.architecture == "onnx"
    for head, fields, pointer in [
        (ONNX, {}, "/spec"),
        (ONNX, {"architecture": "small_resnet", "num_classes": "3"}, "/architecture"),
        (ZIP, {"architecture": "onnx", "num_classes": "3"}, "/architecture"),
        (ONNX, {"num_classes": "3", "weights_key": "ema"}, "/weights_key"),
    ]:
        with pytest.raises(InvalidRequest) as caught:
            read_model_form(form(head, **fields))
        assert pointers(caught) == [pointer]


def test_the_key_of_the_weights_is_a_field_of_its_own() -> None:
    """`weights_key` is a field beside the spec, whole or field by field; a key with control characters is refused."""
    whole = form(spec=SPEC.model_dump_json(), weights_key=" model.ema ")
    assert read_model_form(whole) == ("weights", SPEC, "model.ema")
    assert read_model_form(form(architecture="small_resnet", num_classes="3", weights_key=".")).weights_key == "."
    for key in ("a\nb", "x" * 1001):
        with pytest.raises(InvalidRequest) as failure:
            read_model_form(form(spec=SPEC.model_dump_json(), weights_key=key))
        assert pointers(failure) == ["/weights_key"]


def test_our_own_files_tell_what_they_are() -> None:
    """Without a spec the metadata of a safetensors file define the network; empty fields count as absent."""
    head = safetensors({"faal": SPEC.model_dump_json()})
    assert read_model_form(form(head, architecture=" ", name="")) == ("weights", SPEC, None)


@pytest.mark.parametrize(
    ("fields", "pointer"),
    [
        ({"spec": "{"}, "/spec"),
        ({"spec": '{"architecture": "small_resnet", "num_classes": 1}'}, "/spec/num_classes"),
        ({"spec": '{"architecture": "small_resnet", "num_classes": 3, "x": 1}'}, "/spec/x"),
        ({"architecture": "python:nets.build", "num_classes": "3"}, "/architecture"),
        ({"spec": '{"architecture": "python:nets.build", "num_classes": 3}'}, "/architecture"),
        ({"architecture": "small_resnet", "num_classes": "three"}, "/num_classes"),
        ({"architecture": "small_resnet"}, "/num_classes"),
        ({"architecture": "small_resnet", "num_classes": "3", "arguments": "width"}, "/arguments"),
        ({"architecture": "small_resnet", "num_classes": "3", "mean": "0,x"}, "/mean/1"),
        ({"architecture": "resnet_2000", "num_classes": "3"}, "/architecture"),
        ({"spec": SPEC.model_dump_json(), "num_classes": "3"}, "/num_classes"),
        ({"colour": "red"}, "/colour"),
        ({"spec": SPEC.model_dump_json(), "name": "a\x00b"}, "/name"),
        ({"spec": SPEC.model_dump_json(), "name": "x" * 201}, "/name"),
        ({}, "/spec"),
    ],
)
def test_faults_are_pointed_to(fields: dict[str, str], pointer: str) -> None:
    """A wrong, unknown or missing field is refused by name."""
    with pytest.raises(InvalidRequest) as error:
        read_model_form(form(**fields))
    assert pointers(error) == [pointer]


@pytest.mark.parametrize(
    "header", [b"{", b"[]", b'{"__metadata__": 3}', b"[" * 100_000, b"\xff\xfe"], ids=lambda header: repr(header[:20])
)
def test_damaged_headers_are_refused(header: bytes) -> None:
    """A header that is no JSON object with metadata is an error of the file, also if it overflows a parser."""
    with pytest.raises(WeightsUnreadable):
        read_model_form(form(struct.pack("<Q", len(header)) + header))


@pytest.mark.parametrize("metadata", [None, {"format": "pt"}])
def test_files_of_others_need_a_spec(metadata: dict[str, str] | None) -> None:
    """A safetensors file without a spec in its metadata needs the spec beside it."""
    with pytest.raises(InvalidRequest, match="name at least"):
        read_model_form(form(safetensors(metadata)))


@pytest.mark.parametrize(
    ("filename", "name"),
    [
        ("signs.npz", "signs"),
        ("C:\\data\\signs.npz", "signs"),
        ("../../etc/passwd", "passwd"),
        ("a\x00\x1b[31mb.npz", "a[31mb"),
        ("\u202e.npz", "data set"),
        ("x" * 500 + ".npz", "x" * 200),
    ],
)
def test_the_name_is_the_files_name_made_harmless(filename: str, name: str) -> None:
    """Without a name the file's own is used, without folders, ending and control characters, and with at most 200 characters."""
    assert read_dataset_form(form(filename=filename)) == name
    assert read_dataset_form(form(filename=filename, name=" mine ")) == "mine"


def test_data_sets_have_no_other_fields() -> None:
    """A field that only models have is refused for a data set."""
    fields: dict[str, Any] = {"num_classes": "3"}
    with pytest.raises(InvalidRequest) as error:
        read_dataset_form(form(**fields))
    assert pointers(error) == ["/num_classes"]
