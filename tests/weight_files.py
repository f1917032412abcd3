"""Make files of weights by hand, and check that they are refused."""

import json
import struct
from collections.abc import Callable
from pathlib import Path
from zipfile import ZIP_STORED, ZipFile

import pytest

from faal_core.errors import WeightsUnreadable
from faal_core.specs import ClassifierSpec
from faal_core.weights import read_classifier

SPEC = ClassifierSpec(architecture="small_resnet", num_classes=3)


def assert_refused(path: Path, reason: str) -> None:
    """Check that reading the file raises WeightsUnreadable with that reason."""
    with pytest.raises(WeightsUnreadable, match=reason):
        read_classifier(path, SPEC)


def rewrite_checkpoint(
    path: Path, change: Callable[[str, bytes], bytes | None], compression: int = ZIP_STORED, **more: bytes
) -> Path:
    """Return a copy of the checkpoint with each member changed, or left out for None, and more members added."""
    copy = path.with_name("copy.pt")
    with ZipFile(path) as source, ZipFile(copy, "w", compression) as target:
        for name in source.namelist():
            content = change(name, source.read(name))
            if content is not None:
                target.writestr(name, content)
        for name, content in more.items():
            target.writestr(name, content)
    return copy


def write_safetensors_file(path: Path, header: object, values: bytes = b"") -> Path:
    """Write a file with that header, as JSON, and those values; return its path."""
    content = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(content)) + content + values)
    return path


def make_entry(dtype: str = "F32", shape: tuple[int, ...] = (1,), end: int = 4) -> dict[str, object]:
    """Return a header's entry for a tensor at the start of the values."""
    return {"dtype": dtype, "shape": shape, "data_offsets": [0, end]}
