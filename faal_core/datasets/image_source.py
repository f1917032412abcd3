"""Sources of image files: a folder or a .zip, as names and a function that reads each.

No file is skipped silently. A file that cannot be listed or read is an error, and a link must stay within its folder.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from faal_core.archives import MAX_BYTES, UnsafeArchive, list_safe_members, open_archive
from faal_core.datasets.image_cache import stamp_files
from faal_core.errors import DatasetInvalid
from faal_core.errors.memory_exhaustion import require_memory

MAX_IMAGES = 500_000
MAX_FILE_BYTES = 32 * 2**20


@dataclass(frozen=True)
class ImageSource:
    """The files of one data set.

    Args:
        title: the data set's name.
        names: paths of the files below the data set, with `/`.
        folders: paths of the folders; an archive may list only some.
        content: returns the content of the file of that name.
        stamp: returns what changes when one of the files of those names does.
    """

    title: str
    names: Sequence[str]
    folders: Sequence[str]
    content: Callable[[str], bytes]
    stamp: Callable[[Sequence[str]], object]

    def read(self, name: str) -> bytes:
        """Return the content of the file of that name. Raises: DatasetInvalid."""
        try:
            return self.content(name)
        except Exception as error:  # noqa: BLE001 - a damaged member can raise anything in a decompressor
            require_memory(error, f"to read {name}")
            reason = (isinstance(error, OSError) and error.strerror) or str(error)[:200]
            raise DatasetInvalid(f"{name} cannot be read: {reason}.") from None


@contextmanager
def open_source(path: Path, *, max_bytes: int = MAX_BYTES) -> Iterator[ImageSource]:
    """Open the folder or archive at `path` for the block.

    Args:
        max_bytes: the largest size of an archive's content.

    Raises: DatasetInvalid where it, or a file in it, breaks a rule or cannot be read.
    """
    try:
        if path.is_dir():
            yield ImageSource(
                path.resolve().name,
                *_walk(path),
                content=lambda name: (path / name).read_bytes(),
                stamp=lambda names: stamp_files([path / name for name in names]),
            )
            return
        with open_archive(path) as archive:
            members = list_safe_members(archive, most=2 * MAX_IMAGES, max_bytes=max_bytes)
            for member in members:
                if member.file_size > MAX_FILE_BYTES:
                    raise UnsafeArchive(  # noqa: TRY301 - reported as the other faults of an archive are
                        f"{member.filename!r} unpacks to {member.file_size:,} bytes; at most {MAX_FILE_BYTES:,} are read"
                    )
            folders = [member.filename.rstrip("/") for member in archive.infolist() if member.is_dir()]
            yield ImageSource(
                path.stem,
                [member.filename for member in members],
                folders,
                content=archive.read,
                stamp=lambda names: [*stamp_files([path]), *((name, archive.getinfo(name).CRC) for name in names)],
            )
    except UnsafeArchive as error:
        raise DatasetInvalid(f"{path.name} is refused: {error}.") from None
    except OSError as error:
        raise DatasetInvalid(f"{error.filename or path} cannot be read: {error.strerror or error}.") from None


def _walk(root: Path) -> tuple[list[str], list[str]]:
    """Return all files and all folders below `root`, and follow links that stay below it. Raises: DatasetInvalid, OSError."""
    boundary, files, folders = root.resolve(), list[str](), list[str]()
    pending: list[tuple[Path, tuple[Path, ...]]] = [(root, (boundary,))]
    while pending:
        folder, ancestors = pending.pop()
        for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
            path = Path(entry.path)
            if entry.is_symlink():
                _require_link_within(path, boundary, ancestors)
            if entry.is_dir():
                pending.append((path, (*ancestors, path.resolve())))
                folders.append(path.relative_to(root).as_posix())
            elif not entry.is_file():
                raise DatasetInvalid(f"{path} is neither a file nor a folder; remove it.")
            elif entry.stat().st_size > MAX_FILE_BYTES:
                raise DatasetInvalid(f"{path} has {entry.stat().st_size:,} bytes; at most {MAX_FILE_BYTES:,} are read.")
            else:
                files.append(path.relative_to(root).as_posix())
            if len(files) + len(folders) > 2 * MAX_IMAGES:
                raise DatasetInvalid(f"{root} has more than {2 * MAX_IMAGES:,} files and folders.")
    return files, folders


def _require_link_within(link: Path, boundary: Path, ancestors: Sequence[Path]) -> None:
    """Check that a link leads below `boundary`, and to none of the folders that contain it. Raises: DatasetInvalid."""
    target = Path(os.path.realpath(link))  # unlike `resolve`, no error for a link to itself
    if not target.exists():
        raise DatasetInvalid(f"{link} is a link to {target}, which does not exist; remove it.")
    if not target.is_relative_to(boundary):
        raise DatasetInvalid(
            f"{link} is a link to {target}, outside {boundary}; copy what it points to, or pass the folder it points to."
        )
    if target in ancestors:
        raise DatasetInvalid(f"{link} is a link to a folder that contains it; remove it.")
