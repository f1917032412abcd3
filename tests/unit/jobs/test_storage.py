"""Files by content, in a folder and in an object store."""

import errno
import hashlib
import io
import os
import signal
import time
from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from jobs import folder_storage, object_storage
from jobs.errors import FileLost, StorageFull, StoreUnavailable, UploadTooLarge
from jobs.settings import Settings
from jobs.storage import FolderStorage, ObjectStorage, Storage, StoredFile, open_storage
from tests.servers import find_free_port, run_python
from tests.storage_contents import list_places, overwrite, read_content, read_contents

MEDIA_TYPE = "application/octet-stream"
ABSENT = "0" * 64


@pytest.fixture
def folder(tmp_path) -> FolderStorage:
    """Return an empty folder."""
    return FolderStorage(tmp_path / "files")


@pytest.fixture
def bucket(object_store, tmp_path) -> ObjectStorage:
    """Return an empty prefix in a bucket of its own, with short timeouts."""
    return ObjectStorage(object_store.new_url(), tmp_path / "spool", patience_seconds=0.5)


@pytest.fixture(params=["folder", "bucket"])
def storage(request) -> Storage:
    """Return an empty storage: the test runs once on each kind."""
    return request.getfixturevalue(request.param)


def test_a_file_is_named_by_its_content(storage):
    """A stored file is found under its SHA-256, whatever pieces it came in."""
    digest = hashlib.sha256(b"some weights").hexdigest()
    assert storage.put([b"some ", b"", b"weights"], media_type=MEDIA_TYPE) == StoredFile(digest, 12, MEDIA_TYPE)
    assert read_content(storage, digest) == b"some weights"
    assert storage.stat(digest).st_size == 12
    assert storage.exists(digest)


def test_an_empty_file_is_one(storage):
    """Empty content is stored like any other."""
    assert read_content(storage, storage.put([], media_type=MEDIA_TYPE).sha256) == b""


def test_the_same_content_is_kept_once(storage):
    """Storing a file again returns the same digest and adds no file."""
    first = storage.put([b"x"], media_type=MEDIA_TYPE)
    assert storage.put([b"x"], media_type=MEDIA_TYPE) == first
    assert read_contents(storage) == [b"x"]


def test_a_copy_of_a_file(storage, tmp_path):
    """A file from the disk is stored like one that comes in pieces, and read in pieces, whatever its size."""
    content = os.urandom(object_storage._PART_BYTES + 1)
    (tmp_path / "weights").write_bytes(content)
    stored_file = storage.put_file(tmp_path / "weights", media_type=MEDIA_TYPE)
    assert stored_file == StoredFile(hashlib.sha256(content).hexdigest(), len(content), MEDIA_TYPE)
    with storage.open(stored_file.sha256) as file:
        assert file.read() == content
        assert (file.seek(-5, os.SEEK_END), file.read(9)) == (len(content) - 5, content[-5:])
        assert (file.seek(7), file.read(2), file.seek(1, os.SEEK_CUR), file.read(1)) == (
            7,
            content[7:9],
            10,
            content[10:11],
        )
    assert storage.fetch(stored_file.sha256, tmp_path).read_bytes() == content


def test_only_what_is_retained_is_left(storage):
    """Files that are not retained are removed; a retained digest need not exist."""
    retained_digest, other = (storage.put([content], media_type=MEDIA_TYPE).sha256 for content in (b"kept", b"other"))
    storage.retain([retained_digest, ABSENT])
    assert read_contents(storage) == [b"kept"]
    storage.retain([])
    assert read_contents(storage) == []
    assert not storage.exists(other)


def test_what_a_killed_put_left_is_not_retained(folder):
    """The remains of a killed put are removed with the other files."""
    retained_digest = folder.put([b"kept"], media_type=MEDIA_TYPE).sha256
    (folder.root / "incoming" / "tmp_of_a_killed_put").touch()
    folder.retain([retained_digest])
    assert read_contents(folder) == [b"kept"]


def test_what_is_removed_is_gone(storage):
    """A removed file no longer exists; a file that never existed can be removed."""
    sha256 = storage.put([b"x"], media_type=MEDIA_TYPE).sha256
    for name in (sha256, ABSENT):
        storage.remove(name)
        assert not storage.exists(name)


def test_a_limit_is_inclusive(storage):
    """A file of exactly the limit is kept."""
    assert storage.put([b"12", b"34"], media_type=MEDIA_TYPE, limit=4).size == 4


def test_a_file_past_the_limit_leaves_nothing(storage, tmp_path):
    """A file above the limit is refused as soon as it exceeds it, and no part of it is left on the disk."""
    read = []

    def chunks() -> Iterator[bytes]:
        for chunk in (b"12", b"345", b"never read"):
            read.append(chunk)
            yield chunk

    with pytest.raises(UploadTooLarge, match="exceeds 4 bytes"):
        storage.put(chunks(), media_type=MEDIA_TYPE, limit=4)
    assert read == [b"12", b"345"]
    assert nothing_left(storage, tmp_path)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_leaves_nothing(storage, number, tmp_path):
    """A full disk is reported as such, and no part of the file is left on it."""

    def chunks() -> Iterator[bytes]:
        yield b"12"
        raise OSError(number, os.strerror(number))

    with pytest.raises(StorageFull, match="disk is full"):
        storage.put(chunks(), media_type=MEDIA_TYPE)
    assert nothing_left(storage, tmp_path)


def test_other_errors_are_not_hidden(storage, tmp_path):
    """An upload that breaks off raises its own error, and no part of the file is left on the disk."""

    def chunks() -> Iterator[bytes]:
        yield b"12"
        raise ConnectionResetError("the client went away")

    with pytest.raises(ConnectionResetError):
        storage.put(chunks(), media_type=MEDIA_TYPE)
    assert nothing_left(storage, tmp_path)


def nothing_left(storage: Storage, tmp_path) -> bool:
    """Return whether storage and disk are both empty."""
    return read_contents(storage) == [] == [path for path in tmp_path.rglob("*") if path.is_file()]


@pytest.mark.parametrize("name", ["", "../../etc/passwd", "A" * 64, "a" * 63, "a" * 65, "a" * 64 + "\n", "g" * 64])
def test_only_digests_become_paths(storage, name):
    """Text that is no SHA-256 in lower-case hexadecimal never becomes a path."""
    for verb in (storage.open, storage.exists, storage.remove, storage.stat):
        with pytest.raises(ValueError, match="not a SHA-256"):
            verb(name)


def test_an_absent_file(storage):
    """A file that was never put in cannot be opened."""
    for verb in (storage.open, storage.stat):
        with pytest.raises(FileNotFoundError):
            verb(ABSENT)
    assert not storage.exists(ABSENT)


def test_what_was_put_anew_is_not_silent(storage, monkeypatch):
    """A file is silent since its last put, and a file with another name than its digest is not listed."""
    first, second = (storage.put([content], media_type=MEDIA_TYPE).sha256 for content in (b"1", b"2"))
    storage.for_job("job_1").put([b"3"], media_type=MEDIA_TYPE)
    start = time.time()
    time.sleep(1.1)  # an object store may tell whole seconds
    storage.put([b"2"], media_type=MEDIA_TYPE)
    assert list(storage.list_untouched(time.time() - start)) == [first]
    later = SimpleNamespace(time=lambda: start + 3600)
    for module in (folder_storage, object_storage):
        monkeypatch.setattr(module, "time", later)
    assert sorted(storage.list_untouched(60)) == sorted([first, second])


def test_a_job_has_a_storage_of_its_own(storage, monkeypatch):
    """A job's files are stored under the job's name, are found by it, and are removed alone."""
    storage.put([b"common"], media_type=MEDIA_TYPE)
    assert storage.list_jobs() == []
    for job in ("job_1", "job_2"):
        storage.for_job(job).put([b"of ", job.encode()], media_type=MEDIA_TYPE)
    storage.for_job("job_1").retain([])
    storage.for_job("job_1").put([b"later"], media_type=MEDIA_TYPE)
    assert sorted(storage.list_jobs()) == ["job_1", "job_2"]
    assert not storage.for_job("job_2").is_untouched(60)
    with monkeypatch.context() as patch:
        for module in (folder_storage, object_storage):
            patch.setattr(module, "time", SimpleNamespace(time=lambda: time.time() + 100))
        assert storage.for_job("job_2").is_untouched(60)
    storage.for_job("job_1").clear()
    assert storage.list_jobs() == ["job_2"]
    assert read_contents(storage) == [b"common", b"of job_2"]


def test_a_folder_moves_into_a_store_and_back(folder, bucket, tmp_path):
    """Files have the same places in a folder and in a store, so that a site can move by a copy."""
    sha256 = folder.put([b"common"], media_type=MEDIA_TYPE).sha256
    folder.for_job("job_1").put([b"a checkpoint"], media_type=MEDIA_TYPE)
    for place in list_places(folder):
        bucket._store.put(place, (folder.root / place).read_bytes())
    assert read_content(bucket, sha256) == b"common"
    assert (bucket.list_jobs(), read_contents(bucket.for_job("job_1"))) == (["job_1"], [b"a checkpoint"])
    bucket.put([b"later"], media_type=MEDIA_TYPE)
    back = FolderStorage(tmp_path / "back")
    for place in list_places(bucket):
        (back.root / place).parent.mkdir(parents=True, exist_ok=True)
        (back.root / place).write_bytes(bytes(bucket._store.get(place).bytes()))
    assert read_contents(back) == read_contents(bucket) == [b"a checkpoint", b"common", b"later"]
    assert read_content(back, sha256) == b"common"
    assert back.list_jobs() == ["job_1"]


def test_what_broke_off_is_forgotten(folder):
    """The remains of a killed put are removed after a while; a put that is still running is kept, and ends well."""
    folder.put([b"there"], media_type="text/plain")
    dead = folder.root / "incoming" / "dead"
    dead.write_bytes(b"half a f")
    os.utime(dead, (0, 0))

    def chunks():
        yield b"slow"
        folder.remove_unfinished(60)
        yield b"ly"

    stored_file = folder.put(chunks(), media_type="text/plain")
    assert folder.path(stored_file.sha256).read_bytes() == b"slowly"
    assert list(dead.parent.iterdir()) == []


def test_a_killed_put_leaves_no_object_and_no_file(bucket, object_store, tmp_path):
    """A put into an object store whose process is killed midway leaves neither object nor file."""
    script = (
        "import sys, time; from pathlib import Path; from jobs.storage import ObjectStorage\n"
        "def chunks():\n yield bytes(2**20); print(flush=True); time.sleep(60)\n"
        "ObjectStorage(sys.argv[1], Path(sys.argv[2]), 1).put(chunks(), media_type='')"
    )
    with run_python(script, bucket._url, str(tmp_path / "spool")) as process:
        assert process.stdout.readline() == "\n"
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert nothing_left(bucket, tmp_path)
    assert object_store.count_unfinished(bucket._url) == 0


def test_an_upload_that_fails_in_between_is_given_up(bucket, object_store, monkeypatch):
    """If a part cannot be read, no object appears, and the upload to the store is aborted."""
    keep = bucket._store_file

    class Torn(io.BytesIO):
        """A file whose disk fails behind the first part."""

        def read(self, size: int | None = -1) -> bytes:
            """Return the next bytes. Raises: OSError."""
            if self.tell() > 2 * object_storage._PART_BYTES:
                raise OSError(errno.EIO, "the disk")
            return super().read(size)

    monkeypatch.setattr(bucket, "_store_file", lambda file, *arguments: keep(Torn(file.read()), *arguments))
    with pytest.raises(OSError, match="the disk"):
        bucket.put([bytes(2**20)] * 24, media_type=MEDIA_TYPE)
    assert read_contents(bucket) == []
    assert object_store.count_unfinished(bucket._url) == 0


@pytest.mark.parametrize("instead", [b"weightz", b"weig", None], ids=["changed", "cut", "missing"])
def test_a_damaged_file_is_not_used_and_a_second_put_restores_it(storage, tmp_path, instead):
    """`local` and `verified` refuse a file that was changed, cut or removed, and copy nothing; `put` stores it again."""
    sha256 = storage.put([b"weights"], media_type=MEDIA_TYPE).sha256
    overwrite(storage, b"weights", instead) if instead is not None else storage.remove(sha256)
    folder = tmp_path / "copies"
    folder.mkdir()
    for read in (lambda: storage.fetch(sha256, folder), lambda: storage.verify(sha256)):
        with pytest.raises(FileLost, match=sha256) as lost:
            read()
        assert lost.value.damaged == (instead is not None)
    assert list(folder.iterdir()) == []
    storage.put([b"weights"], media_type=MEDIA_TYPE)
    assert storage.fetch(sha256, folder).read_bytes() == b"weights"
    assert storage.verify(sha256).st_size == len(b"weights")


def test_a_copy_that_was_damaged_is_fetched_again(bucket, tmp_path):
    """A job's own copy of an object is compared too, each time it is used."""
    sha256 = bucket.put([b"weights"], media_type=MEDIA_TYPE).sha256
    bucket.fetch(sha256, tmp_path).write_bytes(b"weightz")
    assert bucket.fetch(sha256, tmp_path).read_bytes() == b"weights"


def test_a_folder_in_place_of_a_file_is_a_damaged_file(folder):
    """A place that cannot be read as a file counts as damaged, and no path is in the message."""
    sha256 = folder.put([b"weights"], media_type=MEDIA_TYPE).sha256
    folder.path(sha256).unlink()
    folder.path(sha256).mkdir()
    with pytest.raises(FileLost) as lost:
        folder.verify(sha256)
    assert lost.value.damaged
    assert str(folder.root) not in lost.value.message


def test_a_file_is_fetched_once(bucket, tmp_path):
    """A job's copy of an object is used again, although the store is asked no more."""
    sha256 = bucket.put([b"weights"], media_type=MEDIA_TYPE).sha256
    local_path = bucket.fetch(sha256, tmp_path)
    bucket.remove(sha256)
    assert bucket.fetch(sha256, tmp_path) == local_path
    assert local_path.read_bytes() == b"weights"


VERBS = {
    "put": lambda storage: storage.put([b"x"], media_type=MEDIA_TYPE),
    "open": lambda storage: storage.open(ABSENT),
    "exists": lambda storage: storage.exists(ABSENT),
    "remove": lambda storage: storage.remove(ABSENT),
    "list_untouched": lambda storage: list(storage.list_untouched(1)),
    "list_jobs": lambda storage: storage.list_jobs(),
    "retain": lambda storage: storage.retain([]),
    "clear": lambda storage: storage.clear(),
}


@pytest.mark.parametrize("verb", VERBS)
def test_a_failing_store_is_told(object_store, tmp_path, monkeypatch, verb):
    """A store that is unreachable, lacks the bucket or refuses the credentials is reported by its cause, without secrets."""

    def read_message(url: str) -> str:
        with pytest.raises(StoreUnavailable) as failure:
            VERBS[verb](ObjectStorage(url, tmp_path, patience_seconds=0.2))
        return failure.value.message

    url = object_store.new_url()
    assert "no such bucket" in read_message("s3://absent/faal")
    with object_store.require_credentials():
        refusal = read_message(url)
    assert "refuses" in refusal
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{find_free_port()}")
    outage = read_message(url)
    assert "does not answer" in outage
    assert not any(secret in refusal + outage for secret in ("127.0.0.1", "test", "<?xml"))


def test_the_settings_choose(settings, object_store, monkeypatch):
    """Files are stored in the data folder unless a store is named; an empty variable names none."""
    assert isinstance(open_storage(settings), FolderStorage)
    monkeypatch.setenv("FAAL_STORE_URL", "")
    assert isinstance(open_storage(Settings(data_dir=settings.data_dir)), FolderStorage)
    monkeypatch.setenv("FAAL_STORE_URL", object_store.new_url())
    assert isinstance(open_storage(Settings(data_dir=settings.data_dir)), ObjectStorage)
