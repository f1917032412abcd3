"""Hostile models: the cases, and how each is refused."""

import json
import pickle
import struct
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from faal_core import networks
from tests.service import hostile_pickles as pickles
from tests.service.hostile_files import Hostile, deflated_zeros, read_zip, safetensors_file, zip_archive
from tests.service.hostile_pickles import Code, Command, FromBytes, checkpoint, tensor, torch_file
from tests.service.small_jobs import SPEC


@cache
def honest_weights() -> Mapping[str, Tensor]:
    """Return weights that fit the spec."""
    return networks.build(SPEC).backbone.state_dict()


def fitting_weights(**changes: Tensor | None) -> bytes:
    """Return the honest weights as safetensors, with tensors added, changed, or left out for None."""
    tensors = {**honest_weights(), **{name.replace("__", "."): value for name, value in changes.items()}}
    return safetensors.torch.save({name: value for name, value in tensors.items() if value is not None})


def as_values(content: bytes) -> Tensor:
    """Return those bytes as a tensor of floats."""
    return torch.frombuffer(bytearray(content + bytes(-len(content) % 4)), dtype=torch.float32)


def with_header(change: Callable[[dict[str, Any]], object]) -> bytes:
    """Return that file with a changed header: `change` gets it, with entries by name, and alters it."""
    content = fitting_weights()
    (length,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + length])
    change(header)
    return safetensors_file(header, content[8 + length :])


def with_doubled_tensor() -> bytes:
    """Return that file with one tensor listed twice."""
    content = fitting_weights()
    (length,) = struct.unpack("<Q", content[:8])
    header = content[8 : 8 + length].rstrip()
    again = json.dumps({"bn.bias": json.loads(header)["bn.bias"]}).encode()
    return safetensors_file(header[:-1] + b"," + again[1:], content[8 + length :])


def empty_tensors(count: int) -> bytes:
    """Return a file of that many tensors without values."""
    entries = ",".join(f'"{i}":{{"dtype":"F32","shape":[0],"data_offsets":[0,0]}}' for i in range(count))
    return safetensors_file(f"{{{entries}}}".encode())


def false_claim(shape: list[int], end: int, dtype: str = "F32") -> bytes:
    """Return a file of four bytes whose header claims a tensor of that shape, up to that byte."""
    return safetensors_file({"weight": {"dtype": dtype, "shape": shape, "data_offsets": [0, end]}}, bytes(4))


def _overlap(header: dict[str, Any]) -> None:
    header["bn.bias"]["data_offsets"] = header["bn.weight"]["data_offsets"]


def _huge(architecture: str = "small_resnet", num_classes: int = 3, **arguments: int) -> dict[str, str]:
    """Return the form's field for a network of that size."""
    return {"spec": json.dumps({"architecture": architecture, "num_classes": num_classes, "arguments": arguments})}


def _of_ours(spec: str) -> bytes:
    """Return a file in this project's format, by its metadata, with that spec."""
    return safetensors_file({"__metadata__": {"faal": spec}})


def _model(
    name: str, code: str, content: Callable[[Path], bytes], reason: str = "", status: int = 202, **more: Any
) -> Hostile:
    return Hostile(name, "/models", code, content, status, reason, **more)


# Files whose canary appears when Python's pickle, or torch without `weights_only`, reads them.
LIVE = [
    _model("bare-pickle", "unsupported-file", lambda c: pickle.dumps(Command(c)), status=415),
    _model("bare-pickle-of-old", "unsupported-file", lambda c: pickle.dumps(Code(c), protocol=0), status=415),
    _model("format-before-1.6", "unsupported-file", lambda c: pickles.before_1_6(Command(c)), status=415),
    _model("magic-number-alone", "unsupported-file", lambda c: pickles.magic_alone(Code(c)), status=415),
    _model("tar-of-torch-0.1", "unsupported-file", lambda c: pickles.tar(Command(c)), status=415),
    _model(
        "os-system",
        "weights-unreadable",
        lambda c: torch_file({"a": torch.zeros(3), "b": Command(c)}),
        "call posix.system",
    ),
    _model("exec-deep-inside", "weights-unreadable", pickles.nested_call, "call builtins.exec"),
    _model("opcode-inst", "weights-unreadable", lambda c: checkpoint(pickles.instance(c)), "Unsupported operand"),
    _model(
        "opcode-stack-global",
        "weights-unreadable",
        lambda c: checkpoint(pickles.stack_global(c)),
        "Unsupported operand",
    ),
    _model("persistent-id", "weights-unreadable", lambda c: checkpoint(pickles.persistent_id(c)), "call posix.system"),
    _model(
        "storage-from-bytes",
        "weights-unreadable",
        lambda c: torch_file({"a": FromBytes(c)}),
        "call torch.storage._load_from",
    ),
]

_ARCHIVES = [
    _model(
        "whole-module",
        "weights-unreadable",
        lambda _: torch_file(torch.nn.Linear(2, 2)),
        "call torch.nn.modules.linear",
    ),
    _model("torchscript", "weights-unreadable", lambda _: pickles.script(), "code/__torch__"),
    _model(
        "exported-program",
        "weights-unreadable",
        lambda _: pickles.exported_program(),
        "no member 'archive/data/weights",
    ),
    _model(
        "code-beside-weights",
        "weights-unreadable",
        lambda _: zip_archive({**read_zip(torch_file(honest_weights())), "archive/code/__torch__.py": b"import os"}),
        "no member 'archive/code",
    ),
    _model(
        "deflated-bomb",
        "weights-unreadable",
        lambda _: deflated_zeros(48 * 2**20),
        "is compressed by an unsupported method",
    ),
    _model(
        "meta-tensor", "weights-unreadable", lambda _: torch_file({"w": torch.empty(10**12, device="meta")}), "claims"
    ),
    _model(
        "more-values-than-bytes",
        "weights-unreadable",
        lambda _: checkpoint(tensor(size=10**12, stride=0)),
        "claims 1,000,000,000,000 values",
    ),
    _model(
        "stride-beyond-storage",
        "weights-unreadable",
        lambda _: checkpoint(tensor(offset=2, stride=10**9)),
        "not resizable",
    ),
    _model("storage-beyond-record", "weights-unreadable", lambda _: checkpoint(tensor(numel=10**12)), "record size"),
    _model("two-gigabytes-by-a-call", "weights-unreadable", lambda _: checkpoint(pickles.greedy()), "calls bytearray"),
    _model("endless-key", "weights-unreadable", lambda _: checkpoint(pickles.endless()), "more than 10,000,000 values"),
    _model(
        "half-a-character-in-a-name",
        "weights-unreadable",
        lambda _: checkpoint(tensor("\ud800", size=10**12, stride=0)),
        r"^\\ud800 claims",
    ),
]

_SAFETENSORS = [
    _model("header-of-2-to-the-63", "unsupported-file", lambda _: struct.pack("<Q", 2**63) + b"{}" * 50, status=415),
    _model(
        "header-of-100-MB", "unsupported-file", lambda _: struct.pack("<Q", 10**8) + b"{" + b" " * 2**20, status=415
    ),
    _model("half-a-million-tensors", "unsupported-file", lambda _: empty_tensors(500_000), status=415),
    _model("twelve-thousand-tensors", "weights-unreadable", lambda _: empty_tensors(12_000), "holds 12,000 tensors"),
    _model("header-no-json", "weights-unreadable", lambda _: safetensors_file(b"{'a': 1}"), status=422, fields={}),
    _model(
        "header-of-brackets",
        "weights-unreadable",
        lambda _: safetensors_file(b"{" + b"[" * 10**6),
        status=422,
        fields={},
    ),
    _model("tensor-named-twice", "weights-unreadable", lambda _: with_doubled_tensor(), "damaged"),
    _model("overlapping-tensors", "weights-unreadable", lambda _: with_header(_overlap), "damaged"),
    _model("offsets-beyond-file", "weights-unreadable", lambda _: false_claim([2**28], 2**30), "damaged"),
    _model("shape-overflows", "weights-unreadable", lambda _: false_claim([2**33, 2**33], 4), "damaged"),
    _model("trillion-values", "weights-unreadable", lambda _: false_claim([10**12], 4), "damaged"),
    _model("type-not-accepted", "weights-unreadable", lambda _: false_claim([4], 4, "F8_E4M3"), "has type F8_E4M3"),
    _model(
        "wrong-and-missing-keys",
        "weights-mismatch",
        lambda c: fitting_weights(bn__bias=None, bn__bogus=as_values(torch_file(Command(c)))),
        "missing: bn.bias.* unexpected: bn.bogus",
    ),
    _model(
        "not-a-number",
        "weights-unreadable",
        lambda _: fitting_weights(linear__bias=torch.full((3,), torch.nan)),
        "NaN or inf",
    ),
    _model(
        "infinite-once-single",
        "weights-unreadable",
        lambda _: fitting_weights(linear__bias=torch.full((3,), 1e300, dtype=torch.float64)),
        "NaN or infinite",
    ),
]

_SPECS = [
    _model("network-too-wide", "invalid-request", lambda _: fitting_weights(), "width", 422, fields=_huge(width=10**9)),
    _model(
        "too-many-classes",
        "invalid-request",
        lambda _: fitting_weights(),
        "num_classes",
        422,
        fields=_huge(num_classes=10**9),
    ),
    _model(
        "code-as-architecture",
        "invalid-request",
        lambda _: fitting_weights(),
        "architecture",
        422,
        fields=_huge("os:system"),
    ),
    _model(
        "spec-of-brackets",
        "invalid-request",
        lambda _: fitting_weights(),
        "not JSON",
        422,
        fields={"spec": "[" * 10**5},
    ),
    _model(
        "wide-in-metadata", "invalid-request", lambda _: _of_ours(_huge(width=10**9)["spec"]), "width", 422, fields={}
    ),
    _model(
        "no-spec",
        "invalid-request",
        lambda _: torch_file(honest_weights()),
        "architecture and num_classes",
        422,
        fields={},
    ),
]

MODELS = LIVE + _ARCHIVES + _SAFETENSORS + _SPECS
