"""Write and open the zip file of a pack. Each list of contents has exactly one form, so every changed byte shows.

The form: members in the order of their names, stored without compression, with the time 1980-01-01 and no extra fields, comments
or data before or after. Compression would depend on the version of zlib.
"""

import struct
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from io import BytesIO
from pathlib import Path
from shutil import copyfileobj
from tempfile import SpooledTemporaryFile
from typing import IO, NamedTuple
from zipfile import ZIP_STORED, BadZipFile, LargeZipFile, ZipFile, ZipInfo

from faal_core.archives import UnsafeArchive, list_safe_members
from faal_core.errors import InvalidSpec
from faal_core.evidence.refusal import PackRefused

MAX_BYTES = 2**31 - 1  # of a pack: larger ones need the zip64 format, with fields of its own
MOST_MEMBERS = 32
_TIME = (1980, 1, 1, 0, 0, 0)
_END = struct.Struct("<4s4H2LH")
_ZIP64_LOCATOR, _LOCATOR_BYTES = b"PK\6\7", 20
_ENTRY_BYTES = 256  # of a member in the directory; FAAL's names are short
_IN_MEMORY, _CHUNK = 2**25, 2**20


class Member(NamedTuple):
    """Describes one file of a pack: its size in bytes, and a function that opens it."""

    size: int
    open: Callable[[], IO[bytes]]

    @classmethod
    def from_bytes(cls, content: bytes) -> "Member":
        """Return the member that has this content."""
        return cls(len(content), partial(BytesIO, content))

    @classmethod
    def from_file(cls, path: Path) -> "Member":
        """Return the member that has the file's content. Raises: OSError."""
        return cls(path.stat().st_size, lambda: path.open("rb"))


def write_archive(target: IO[bytes], members: Mapping[str, Member]) -> None:
    """Write the members into the file, which must be seekable. Raises: InvalidSpec beyond 2 GiB; OSError."""
    try:
        with ZipFile(target, "w", ZIP_STORED, allowZip64=False) as archive:
            for name, member in sorted(members.items()):
                info = ZipInfo(name, _TIME)
                info.create_system, info.external_attr, info.file_size = 3, 0o644 << 16, member.size
                with member.open() as source, archive.open(info, "w") as out:
                    copyfileobj(source, out, _CHUNK)
    except LargeZipFile:
        raise InvalidSpec(
            "The pack would have more than 2 GiB. Leave the adversarial images out, and pass their file to faal verify."
        ) from None


@contextmanager
def open_archive(path: Path) -> Iterator[ZipFile]:
    """Open the pack's archive after checking each byte of its structure.

    Raises: PackRefused if it is not exactly as `write_archive` writes it; OSError.
    """
    with path.open("rb") as file:
        _check_end(file)
        with _refuse_damage():
            archive = ZipFile(file)
            _check_members(archive, list_safe_members(archive, most=MOST_MEMBERS, compressed=False))
            _check_form(file, archive)
        with archive:
            yield archive


@contextmanager
def _refuse_damage() -> Iterator[None]:
    """Turn errors about the archive within the context into `PackRefused`."""
    try:
        yield
    except UnsafeArchive as error:
        raise PackRefused(f"The zip file breaks a rule: {error}.") from None
    except (BadZipFile, NotImplementedError, RuntimeError, ValueError, EOFError, struct.error) as error:
        raise PackRefused(f"The zip file is damaged: {str(error)[:200]}.") from None


def _check_end(file: IO[bytes]) -> None:
    """Check the end record before zipfile trusts its sizes. Raises: PackRefused."""
    size = file.seek(0, 2)
    if not _END.size <= size <= MAX_BYTES:
        raise PackRefused("The file is no pack: it is empty, or has more than 2 GiB.")
    file.seek(max(0, size - _END.size - _LOCATOR_BYTES))
    content = file.read()
    locator, record = content[: -_END.size], content[-_END.size :]
    signature, disk, first_disk, here, total, directory, offset, comment = _END.unpack(record)
    if signature != b"PK\5\6" or locator.startswith(_ZIP64_LOCATOR):
        raise PackRefused("The file is no pack: it does not end as FAAL ends a zip file.")
    if disk or first_disk or here != total or comment or not 0 < total <= MOST_MEMBERS:
        raise PackRefused(
            "The zip file is not written as FAAL writes one: it has a comment, parts or too many members."
        )
    if offset + directory + _END.size != size or directory > total * _ENTRY_BYTES:
        raise PackRefused("The zip file has bytes that belong to no member.")


def _check_members(archive: ZipFile, members: list[ZipInfo]) -> None:
    if len(members) < len(archive.infolist()) or any(
        member.flag_bits or member.file_size != member.compress_size for member in members
    ):
        raise PackRefused("The zip file is not written as FAAL writes one: it has a folder or an encrypted member.")


def _check_form(file: IO[bytes], archive: ZipFile) -> None:
    """Check that writing the members again gives the same bytes. Raises: PackRefused."""
    members = {info.filename: Member(info.file_size, partial(archive.open, info)) for info in archive.infolist()}
    with SpooledTemporaryFile(_IN_MEMORY) as copy:
        write_archive(copy, members)
        copy.seek(0)
        file.seek(0)
        while True:
            expected, actual = copy.read(_CHUNK), file.read(_CHUNK)
            if expected != actual:
                raise PackRefused("The zip file is not written as FAAL writes one: its headers were changed.")
            if not expected:
                return
