"""Files by content."""

import errno
import hashlib
import os
from collections.abc import Iterator

import pytest

from jobs.errors import StorageFull, UploadTooLarge
from jobs.storage import Storage, Stored

MEDIA_TYPE = "application/octet-stream"


@pytest.fixture
def storage(tmp_path) -> Storage:
    """An empty storage."""
    return Storage(tmp_path / "files")


def _files(storage: Storage) -> list[str]:
    return sorted(path.name for path in storage.root.rglob("*") if path.is_file())


def test_a_file_is_named_by_its_content(storage):
    """What is put in is found under its SHA-256, whatever pieces it came in."""
    digest = hashlib.sha256(b"some weights").hexdigest()
    assert storage.put([b"some ", b"", b"weights"], media_type=MEDIA_TYPE) == Stored(digest, 12, MEDIA_TYPE)
    assert storage.path(digest).read_bytes() == b"some weights"
    with storage.open(digest) as file:
        assert file.read() == b"some weights"


def test_the_same_content_is_kept_once(storage):
    """Putting a file in again answers the same and adds nothing."""
    first = storage.put([b"x"], media_type=MEDIA_TYPE)
    assert storage.put([b"x"], media_type=MEDIA_TYPE) == first
    assert len(_files(storage)) == 1


def test_a_copy_of_a_file(storage, tmp_path):
    """A file that is put in from the disk is kept like one that comes in pieces, however large."""
    content = os.urandom(2**20 + 1)
    (tmp_path / "weights").write_bytes(content)
    stored = storage.put_file(tmp_path / "weights", media_type=MEDIA_TYPE)
    assert stored == Stored(hashlib.sha256(content).hexdigest(), len(content), MEDIA_TYPE)
    assert storage.path(stored.sha256).read_bytes() == content


def test_only_what_is_retained_is_left(storage):
    """Other files go, and so does what a put that was killed has left; what shall stay need not be there."""
    kept, other = (storage.put([content], media_type=MEDIA_TYPE).sha256 for content in (b"kept", b"other"))
    (storage.root / "incoming" / "tmp_of_a_killed_put").touch()
    storage.retain([kept, "0" * 64])
    assert _files(storage) == [kept[2:]]
    storage.retain([])
    assert _files(storage) == []
    assert not storage.path(other).exists()


def test_a_limit_is_inclusive(storage):
    """A file of exactly the limit is kept."""
    assert storage.put([b"12", b"34"], media_type=MEDIA_TYPE, limit=4).size == 4


def test_a_file_past_the_limit_leaves_nothing(storage):
    """A file that exceeds the limit is refused as soon as it does, and none of it stays on the disk."""
    read = []

    def chunks() -> Iterator[bytes]:
        for chunk in (b"12", b"345", b"never read"):
            read.append(chunk)
            yield chunk

    with pytest.raises(UploadTooLarge, match="exceeds 4 bytes"):
        storage.put(chunks(), media_type=MEDIA_TYPE, limit=4)
    assert read == [b"12", b"345"]
    assert _files(storage) == []


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_leaves_nothing(storage, number):
    """When the disk is full the error says so, and none of the file stays on the disk."""

    def chunks() -> Iterator[bytes]:
        yield b"12"
        raise OSError(number, os.strerror(number))

    with pytest.raises(StorageFull, match="no room"):
        storage.put(chunks(), media_type=MEDIA_TYPE)
    assert _files(storage) == []


def test_other_errors_are_not_hidden(storage):
    """An upload that breaks off raises its own error, and none of the file stays on the disk."""

    def chunks() -> Iterator[bytes]:
        yield b"12"
        raise ConnectionResetError("the client went away")

    with pytest.raises(ConnectionResetError):
        storage.put(chunks(), media_type=MEDIA_TYPE)
    assert _files(storage) == []


@pytest.mark.parametrize("name", ["", "../../etc/passwd", "A" * 64, "a" * 63, "a" * 65, "a" * 64 + "\n", "g" * 64])
def test_only_digests_become_paths(storage, name):
    """What is no SHA-256 in lower-case hexadecimal never becomes a path."""
    with pytest.raises(ValueError, match="not a SHA-256"):
        storage.path(name)
    with pytest.raises(ValueError, match="not a SHA-256"):
        storage.open(name)


def test_an_absent_file(storage):
    """A file that was never put in cannot be opened."""
    with pytest.raises(FileNotFoundError):
        storage.open("0" * 64)


def test_what_broke_off_is_forgotten(storage):
    """Of a put whose process was killed nothing is left after a while; one that still goes on stays, and ends well."""
    storage.put([b"there"], media_type="text/plain")
    dead = storage.root / "incoming" / "dead"
    dead.write_bytes(b"half a f")
    os.utime(dead, (0, 0))

    def chunks():
        yield b"slow"
        storage.forget_broken_off(60)
        yield b"ly"

    stored = storage.put(chunks(), media_type="text/plain")
    assert storage.path(stored.sha256).read_bytes() == b"slowly"
    assert list(dead.parent.iterdir()) == []
