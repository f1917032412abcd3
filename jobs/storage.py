"""Files by content: a file's name is its SHA-256, so storage holds the same bytes once.

Storage is a folder or an object store, with the same paths below it. Both have the same methods.
"""

from typing import TypeAlias

from jobs.content import StoredFile, describe_chunks, disk_is_full
from jobs.folder_storage import FolderStorage
from jobs.object_storage import ObjectStorage
from jobs.settings import Settings

__all__ = ["FolderStorage", "ObjectStorage", "Storage", "StoredFile", "describe_chunks", "disk_is_full", "open_storage"]

PATIENCE_SECONDS = 10.0  # how long requests to the service, and sweeps, wait for the store

Storage: TypeAlias = FolderStorage | ObjectStorage


def open_storage(settings: Settings, *, patience_seconds: float = PATIENCE_SECONDS) -> Storage:
    """Return the storage of a site; a request to an object store that fails is repeated for `patience_seconds`."""
    if settings.store_url is None:
        return FolderStorage(settings.files_dir)
    return ObjectStorage(settings.store_url, settings.data_dir / "spool", patience_seconds)
