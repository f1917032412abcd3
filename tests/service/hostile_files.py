"""Parts of hostile uploads: the case as the test reads it, zip archives, and images and arrays with false headers."""

import io
import json
import struct
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from zipfile import ZIP_DEFLATED, ZIP_STORED, ZipFile, ZipInfo

import numpy as np
from PIL import Image

from tests.service.small_jobs import SPEC

SPEC_FIELD = {"spec": SPEC.model_dump_json()}
BOUNDARY = "hostile"
FORM_TYPE = f"multipart/form-data; boundary={BOUNDARY}"


@dataclass(frozen=True)
class Hostile:
    """An upload that shall be refused.

    Args:
        name: the name of the case.
        path: the route that the upload is sent to.
        code: the code of the expected problem.
        content: makes the file from the path of the canary, a file that appears when code of the upload runs.
        status: the status of the response to the upload; 202 if only the check refuses it.
        reason: a pattern of the problem's message.
        fields: the form's fields beside the file; by default those that a model or data set needs.
        headers: the request's headers.
        part_headers: the lines of the file's own headers.
    """

    name: str
    path: str
    code: str
    content: Callable[[Path], bytes]
    status: int = 202
    reason: str = ""
    fields: Mapping[str, str] | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    part_headers: str = ""

    def body(self, canary: Path) -> bytes:
        """Return the form as it is sent."""
        usual = SPEC_FIELD if self.path == "/models" else {}
        return form(self.content(canary), usual if self.fields is None else self.fields, part_headers=self.part_headers)


def form(content: bytes, fields: Mapping[str, str], filename: str = "upload", part_headers: str = "") -> bytes:
    """Return a multipart body; unlike a client's, its file name is sent as it is."""
    parts = [
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
        for name, value in fields.items()
    ]
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="{filename}"\r\n{part_headers}\r\n'
    return "".join(parts).encode() + head.encode() + content + f"\r\n--{BOUNDARY}--\r\n".encode()


def zip_archive(members: Mapping[str, bytes], compression: int = ZIP_STORED) -> bytes:
    """Return an archive of those members."""
    content = io.BytesIO()
    with ZipFile(content, "w", compression) as archive:
        for name, member in members.items():
            archive.writestr(name, member)
    return content.getvalue()


def read_zip(content: bytes) -> dict[str, bytes]:
    """Return the members of an archive."""
    with ZipFile(io.BytesIO(content)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


# Images


def png(level: int = 0, size: tuple[int, int] = (8, 8), kind: str = "PNG") -> bytes:
    """Return a grey image of one level."""
    content = io.BytesIO()
    Image.new("L", size, level).save(content, kind)
    return content.getvalue()


def half_an_image() -> bytes:
    """Return the first half of an image of noise."""
    content = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (8, 8), np.uint8)).save(content, "PNG")
    return content.getvalue()[: len(content.getvalue()) // 2]


def huge_png(side: int) -> bytes:
    """Return an image of a few bytes that states that many pixels a side."""
    chunks = [
        (b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)),
        (b"IDAT", zlib.compress(b"")),
        (b"IEND", b""),
    ]
    wrong_members = (
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(wrong_members)


FOLDERS: Mapping[str, bytes] = MappingProxyType(
    {f"{name}/{i}.png": png(9 * i) for name in ("ape", "cat") for i in range(3)}
)
"""An honest data set of class folders."""


def folders(more: Mapping[str, bytes], compression: int = ZIP_STORED) -> bytes:
    """Return the honest class folders with more members."""
    return zip_archive({**FOLDERS, **more}, compression)


def folders_with_link(target: str) -> bytes:
    """Return the honest class folders with a link among their images."""
    content, link = io.BytesIO(folders({})), ZipInfo("cat/9.png")
    link.external_attr = 0o120777 << 16  # S_IFLNK
    with ZipFile(content, "a") as archive:
        archive.writestr(link, target)
    return content.getvalue()


# Arrays

IMAGES, LABELS = np.arange(6 * 64, dtype=np.uint8).reshape(6, 8, 8), np.arange(6) % 3


def npz(**changes: object) -> bytes:
    """Return an honest data set of arrays, but for the changes."""
    content = io.BytesIO()
    np.savez(content, **{"images": IMAGES, "labels": LABELS, **changes})
    return content.getvalue()


def npz_members(changes: Mapping[str, bytes], compression: int = ZIP_STORED) -> bytes:
    """Return the same data set with other members, as bytes."""
    return zip_archive({**read_zip(npz()), **changes}, compression)


def npy(shape: str, content: bytes, kind: str = "|u1") -> bytes:
    """Return an array file that states that shape, as Python text, and that type."""
    header = f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}}}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode() + content


def names(*code_points: int) -> np.ndarray:
    """Return class names of one character each, which no Python text needs to be able to hold."""
    return np.array(code_points, np.uint32).view("<U1")


# Weights


def safetensors_file(header: object, values: bytes = b"") -> bytes:
    """Return a file of that header, as JSON or in bytes, and those values."""
    content = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(content)) + content + values


def deflated_zeros(size: int) -> bytes:
    """Return a state dict's record of that many zeros, packed."""
    return zip_archive({"archive/data.pkl": b"\x80\x02}.", "archive/data/0": bytes(size)}, ZIP_DEFLATED)
