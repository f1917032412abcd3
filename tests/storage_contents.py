"""Read and damage a storage of either kind in tests."""

import hashlib
from contextlib import suppress

from jobs.content import relative_path
from jobs.storage import FolderStorage, Storage


def read_contents(storage: Storage) -> list[bytes]:
    """Return the contents of all files, with or without a reference, including unfinished ones in a folder.

    A file that is removed after it was listed is left out.
    """
    contents = []
    for place in list_places(storage):
        with suppress(FileNotFoundError):
            if isinstance(storage, FolderStorage):
                contents.append((storage.root / place).read_bytes())
            else:
                contents.append(bytes(storage._store.get(place).bytes()))
    return sorted(contents)


def read_content(storage: Storage, sha256: str) -> bytes:
    """Return the content of the file with that digest."""
    with storage.open(sha256) as file:
        return file.read()


def overwrite(storage: Storage, content: bytes, instead: bytes) -> None:
    """Replace the stored bytes of `content`; its digest no longer matches."""
    sha256 = hashlib.sha256(content).hexdigest()
    assert storage.exists(sha256)
    if isinstance(storage, FolderStorage):
        storage.path(sha256).write_bytes(instead)
    else:
        storage._store.put(relative_path(sha256), instead)


def list_places(storage: Storage) -> set[str]:
    """Return the places of all files in storage, finished or not."""
    if isinstance(storage, FolderStorage):
        return {str(path.relative_to(storage.root)) for path in storage.root.rglob("*") if path.is_file()}
    return {entry["path"] for entry in storage._list_all()}
