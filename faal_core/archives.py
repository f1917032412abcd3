"""Zip archives from strangers: members that are safe to read in memory. Nothing is ever extracted."""

import os
import re
import stat
from pathlib import Path, PurePosixPath
from zipfile import ZIP_DEFLATED, ZIP_STORED, BadZipFile, ZipFile, ZipInfo

MAX_BYTES = 4 * 2**30
# An archive within this needs no look at its ratio: blank images and constant arrays compress a thousandfold, honestly.
UNSUSPICIOUS_BYTES = 64 * 2**20
MAX_RATIO = 200
_DRIVE = re.compile("[A-Za-z]:")  # on Windows; a colon elsewhere in a name leads nowhere


class UnsafeArchive(ValueError):
    """The archive breaks a rule; the message says which and names the member."""


def open_archive(path: Path) -> ZipFile:
    """The archive, open for reading. Raises: UnsafeArchive where the file is no readable zip archive."""
    try:
        return ZipFile(path)
    except (BadZipFile, NotImplementedError, ValueError, EOFError) as error:
        raise UnsafeArchive(f"it is no readable zip archive ({error})") from None


def safe_members(archive: ZipFile, *, most: int, compressed: bool = True) -> list[ZipInfo]:
    """The files in `archive`, folders left out, once the sizes, names and kinds of all members have been checked.

    There may be at most `most` members, folders included; deflated ones only where `compressed` allows them.
    Raises: UnsafeArchive for too many members, more than `MAX_BYTES` or `MAX_RATIO` unpacked, members that overlap, a
        name twice or outside the archive, and members that are links or packed by an unusual method.
    """
    members = archive.infolist()
    if len(members) > most:
        raise UnsafeArchive(f"it has {len(members):,} members; at most {most:,} are read")
    total = sum(member.file_size for member in members)
    packed = sum(member.compress_size for member in members)
    if total > MAX_BYTES:
        raise UnsafeArchive(f"it unpacks to {total:,} bytes; at most {MAX_BYTES:,} are read")
    if packed > _size(archive):
        raise UnsafeArchive(f"its members claim {packed:,} bytes and the file has {_size(archive):,}: they overlap")
    if total > UNSUSPICIOUS_BYTES and total > MAX_RATIO * packed:
        raise UnsafeArchive(f"it unpacks from {packed:,} to {total:,} bytes, more than {MAX_RATIO} times its size")
    if len({member.filename for member in members}) < len(members):
        raise UnsafeArchive("a name occurs in it twice")
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
        raise UnsafeArchive(f"{name!r} is compressed by a method that is not accepted here")


def _size(archive: ZipFile) -> int:
    """The bytes of the archive's file."""
    assert archive.fp is not None, "the archive is open"  # noqa: S101
    position = archive.fp.tell()
    try:
        return archive.fp.seek(0, os.SEEK_END)
    finally:
        archive.fp.seek(position)
