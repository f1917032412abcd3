"""Zip archives from strangers: find the members that are safe to read in memory. No archive is ever extracted."""

import os
import re
import stat
from pathlib import Path, PurePosixPath
from zipfile import ZIP_DEFLATED, ZIP_STORED, BadZipFile, ZipFile, ZipInfo

MAX_BYTES = 4 * 2**30  # unpacked in memory
# Bytes. Smaller archives may have any ratio: blank images and constant arrays compress a thousandfold.
UNSUSPICIOUS_BYTES = 64 * 2**20
MAX_RATIO = 200  # unpacked to packed bytes
_DRIVE = re.compile("[A-Za-z]:")  # on Windows; a colon elsewhere in a name is harmless


class UnsafeArchive(ValueError):
    """The archive breaks a rule; the message states the rule and names the member."""


def open_archive(path: Path) -> ZipFile:
    """Open the archive for reading. Raises: UnsafeArchive where the file is not a readable zip archive."""
    try:
        return ZipFile(path)
    except (BadZipFile, NotImplementedError, ValueError, EOFError) as error:
        raise UnsafeArchive(f"it is not a readable zip archive ({error})") from None


def list_safe_members(
    archive: ZipFile, *, most: int, compressed: bool = True, max_bytes: int = MAX_BYTES
) -> list[ZipInfo]:
    """Return the files in `archive`, without folders, after checking the sizes, names and kinds of all members.

    Args:
        most: the largest number of members, including folders.
        compressed: whether deflated members are allowed.
        max_bytes: the largest size of all members together.

    Raises: UnsafeArchive for too many members, more than `max_bytes` or `MAX_RATIO` unpacked, members that overlap, a
        repeated name or one that leads outside the archive, and members that are links or have an unusual compression.
    """
    members = archive.infolist()
    if len(members) > most:
        raise UnsafeArchive(f"it has {len(members):,} members; at most {most:,} are read")
    total = sum(member.file_size for member in members)
    packed = sum(member.compress_size for member in members)
    if total > max_bytes:
        raise UnsafeArchive(f"it unpacks to {total:,} bytes; at most {max_bytes:,} are read")
    if packed > _measure_size(archive):
        raise UnsafeArchive(
            f"its members claim {packed:,} bytes, but the file has {_measure_size(archive):,}: they overlap"
        )
    if total > UNSUSPICIOUS_BYTES and total > MAX_RATIO * packed:
        raise UnsafeArchive(f"it unpacks from {packed:,} to {total:,} bytes, more than {MAX_RATIO} times its size")
    if len({member.filename for member in members}) < len(members):
        raise UnsafeArchive("two members have one name")
    for member in members:
        _check_member(member, {ZIP_STORED, ZIP_DEFLATED} if compressed else {ZIP_STORED})
    return [member for member in members if not member.is_dir()]


def _check_member(member: ZipInfo, methods: set[int]) -> None:
    """Check the member's name and kind. Raises: UnsafeArchive."""
    name = member.orig_filename
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or _DRIVE.match(name) or any(sign in name for sign in "\\\0"):
        raise UnsafeArchive(f"the name {name!r} leads out of the archive")
    if stat.S_ISLNK(member.external_attr >> 16):
        raise UnsafeArchive(f"{name!r} is a link")
    if member.compress_type not in methods:
        raise UnsafeArchive(f"{name!r} is compressed by an unsupported method")


def _measure_size(archive: ZipFile) -> int:
    """Return the size of the archive's file in bytes."""
    assert archive.fp is not None, "the archive is open"  # noqa: S101
    position = archive.fp.tell()
    try:
        return archive.fp.seek(0, os.SEEK_END)
    finally:
        archive.fp.seek(position)
