"""Files by content: what is put in gets its SHA-256 as name, so the same bytes are kept once.

They lie in a folder or in an object store, in the same places below it. Both have the same verbs.
"""

from typing import TypeAlias

from jobs.content import Stored, disk_is_full, stored_as
from jobs.folder_storage import FolderStorage
from jobs.object_storage import ObjectStorage
from jobs.settings import Settings

__all__ = ["FolderStorage", "ObjectStorage", "Storage", "Stored", "disk_is_full", "open_storage", "stored_as"]

PATIENCE_SECONDS = 10.0  # for which a request waits, or a sweep

Storage: TypeAlias = FolderStorage | ObjectStorage


def open_storage(settings: Settings, *, patience_seconds: float = PATIENCE_SECONDS) -> Storage:
    """The storage of a site; an object store that does not answer is asked again for so long."""
    if settings.store_url is None:
        return FolderStorage(settings.files_dir)
    return ObjectStorage(settings.store_url, settings.data_dir / "spool", patience_seconds)
