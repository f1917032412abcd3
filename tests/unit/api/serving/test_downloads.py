"""Files are compared with their digests before they are sent."""

import os

import pytest

from api.serving.downloads import Downloads
from api.serving.slots import Slots
from jobs.errors import FileLost
from jobs.storage import FolderStorage


def test_a_file_is_verified_once_until_it_changes(tmp_path, monkeypatch) -> None:
    """Several ranges of a file need one reading of it; a change that the file system reports needs another."""
    storage, downloads = FolderStorage(tmp_path), Downloads(Slots(2, "downloads"))
    sha256 = storage.put([b"weights"], media_type="x").sha256
    readings, verify_file = [], FolderStorage.verify
    monkeypatch.setattr(FolderStorage, "verify", lambda own, name: readings.append(name) or verify_file(own, name))
    assert [downloads.verify(storage, sha256, "ann").st_size for _ in range(3)] == [7, 7, 7]
    assert readings == [sha256]
    storage.path(sha256).write_bytes(b"weightz")
    os.utime(storage.path(sha256), (0, 0))
    with pytest.raises(FileLost):
        downloads.verify(storage, sha256, "ann")
    storage.path(sha256).unlink()
    with pytest.raises(FileLost):
        downloads.verify(storage, sha256, "ann")
