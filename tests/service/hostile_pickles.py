"""Checkpoints that run code, exhaust memory or never end when they are read: pickles written opcode by opcode, and torch's."""

import collections
import io
import os
import pickle
import struct
import tarfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from tests.service.hostile_files import read_zip, zip_archive

_MAGIC = 0x1950A86A20F9469CFC6C  # torch/serialization.py, of the format before 1.6


class Command:
    """An object that makes the canary by `os.system` when it is unpickled."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
        return os.system, (f"touch '{self.canary}'",)


class Code(Command):
    """An object that makes the canary by `exec` when it is unpickled."""

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
        return exec, (f"open({str(self.canary)!r}, 'w').close()",)


class FromBytes(Command):
    """An object that makes the canary by torch's function that unpickles a storage: its data is a checkpoint of its own."""

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[bytes]]:
        return torch.storage._load_from_bytes, (torch_file(Command(self.canary)),)


def torch_file(value: object, **options: Any) -> bytes:
    """Return the value as `torch.save` writes it."""
    content = io.BytesIO()
    with warnings.catch_warnings(action="ignore"):
        torch.save(value, content, **options)
    return content.getvalue()


def checkpoint(pickle_bytes: bytes, **members: bytes) -> bytes:
    """Return a checkpoint with that pickle and one record of twelve bytes; with members changed or added."""
    contents = {"archive/data.pkl": pickle_bytes} | {f"archive/{name}": member for name, member in members.items()}
    return zip_archive(read_zip(torch_file({"weight": torch.zeros(3)})) | contents)


def script() -> bytes:
    """Return a network as TorchScript."""
    content = io.BytesIO()
    with warnings.catch_warnings(action="ignore"):
        torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), content)
    return content.getvalue()


def exported_program() -> bytes:
    """Return an archive with the members of `torch.export.save`."""
    names = [
        "data/weights/weight_0",
        "models/model.json",
        "archive_format",
        "archive_version",
        "data/sample_inputs/model.pt",
    ]
    return zip_archive({f"archive/{name}": b"pt2" for name in names})


# Formats of old


def before_1_6(value: object) -> bytes:
    """Return the value in the format of torch before 1.6."""
    return torch_file(value, _use_new_zipfile_serialization=False)


def magic_alone(value: object) -> bytes:
    """Return the head of that format, with the value in the place of the system's description."""
    return b"".join(pickle.dumps(part, protocol=2) for part in (_MAGIC, 1001, value))


def tar(value: object) -> bytes:
    """Return the value in the format of torch 0.1, a tar archive."""
    content = io.BytesIO()
    pickle_bytes = pickle.dumps(value, protocol=2)
    no_storages, no_tensors = pickle.dumps(0) + pickle.dumps([]), pickle.dumps(0)
    members = {"sys_info": pickle.dumps({}), "storages": no_storages, "tensors": no_tensors, "pickle": pickle_bytes}
    with tarfile.open(fileobj=content, mode="w:") as archive:
        for name, member in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(member)
            archive.addfile(entry, io.BytesIO(member))
    return content.getvalue()


# Pickles by opcodes


def _text(value: str) -> bytes:
    """Return the opcode BINUNICODE with that text."""
    return b"X" + struct.pack("<I", len(encoded_text := value.encode("utf-8", "surrogatepass"))) + encoded_text


def _long(value: int) -> bytes:
    """Return the opcode LONG1 with eight bytes."""
    return b"\x8a\x08" + value.to_bytes(8, "little", signed=True)


def instance(canary: Path) -> bytes:
    """Return the command by the opcode INST of the first protocol."""
    return f"(S\"touch '{canary}'\"\nios\nsystem\n.".encode()


def stack_global(canary: Path) -> bytes:
    """Return the command by the opcode STACK_GLOBAL of the fourth protocol."""
    return pickle.dumps(Command(canary), protocol=4)


def persistent_id(canary: Path) -> bytes:
    """Return the command inside the name of a storage that torch is to fetch."""
    call = b"cposix\nsystem\n" + _text(f"touch '{canary}'") + b"\x85R"
    return b"\x80\x02(" + _text("storage") + b"ctorch\nFloatStorage\n" + call + _text("cpu") + b"K\x03tQ."


def tensor(name: str = "weight", *, numel: int = 3, offset: int = 0, size: int = 3, stride: int = 1) -> bytes:
    """Return a state dict of one tensor on the record of twelve bytes, with that shape and stride."""
    storage = b"(" + _text("storage") + b"ctorch\nFloatStorage\n" + _text("0") + _text("cpu") + _long(numel) + b"tQ"
    view = storage + _long(offset) + _long(size) + b"\x85" + _long(stride) + b"\x85\x89ccollections\nOrderedDict\n)R"
    return b"\x80\x02}" + _text(name) + b"ctorch._utils\n_rebuild_tensor_v2\n(" + view + b"tRs."


def endless() -> bytes:
    """Return a key of sixty nested pairs, each twice in the next: hashing it takes 2⁶⁰ steps."""
    pairs = b"".join(b"h%ch%c\x86q%c" % (depth, depth, depth + 1) for depth in range(60))
    return b"\x80\x02(K\x01q\x00" + pairs + b"t}h\x3cK\x01s."


def greedy() -> bytes:
    """Return a call, one that torch allows, for two gigabytes of zeros."""
    return b"\x80\x02cbuiltins\nbytearray\nJ\xff\xff\xff\x7f\x85R."


def nested_call(canary: Path) -> bytes:
    """Return a checkpoint with the call deep in plain containers."""
    return torch_file(
        {"state_dict": collections.OrderedDict(weight=torch.zeros(3)), "epochs": [({"best": (Code(canary),)},)]}
    )
