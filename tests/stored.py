"""What tests see in a storage of either kind, and how they spoil it."""

import hashlib

from jobs.content import place_of
from jobs.storage import FolderStorage, Storage


def contents(storage: Storage) -> list[bytes]:
    """The contents of all that is there, whatever refers to it, and of what was left half done in a folder."""
    if isinstance(storage, FolderStorage):
        return sorted((storage.root / place).read_bytes() for place in places(storage))
    return sorted(bytes(storage._store.get(place).bytes()) for place in places(storage))


def content_of(storage: Storage, sha256: str) -> bytes:
    """The file of that digest."""
    with storage.open(sha256) as file:
        return file.read()


def damage(storage: Storage, content: bytes, instead: bytes) -> None:
    """Where that content is, another one is from now on."""
    sha256 = hashlib.sha256(content).hexdigest()
    assert storage.exists(sha256)
    if isinstance(storage, FolderStorage):
        storage.path(sha256).write_bytes(instead)
    else:
        storage._store.put(place_of(sha256), instead)


def places(storage: Storage) -> set[str]:
    """Where something is in storage, finished or not."""
    if isinstance(storage, FolderStorage):
        return {str(path.relative_to(storage.root)) for path in storage.root.rglob("*") if path.is_file()}
    return {found["path"] for found in storage._all()}
