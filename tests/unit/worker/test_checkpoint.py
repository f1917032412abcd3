"""Files that an attempt saved are found by the next one on any machine, stored once, and safe from attempts without the lease."""

import errno
import hashlib
import os
from types import SimpleNamespace

import pytest

from faal_core.progress import Cancelled
from jobs import lifecycle, queries
from jobs.errors import LeaseLost
from jobs.storage import Storage
from tests.storage_contents import overwrite, read_content, read_contents
from worker import checkpoint as worker_checkpoint


@pytest.fixture
def save(tmp_path):
    """Save content as an attempt on a machine would."""

    def save_file(content: str, name: str = "training.pt", machine: str = "here") -> None:
        partial = tmp_path / machine / f"{name}.new"
        partial.write_text(content)
        partial.replace(tmp_path / machine / name)

    return save_file


@pytest.fixture
def read_folder(tmp_path):
    """Return the files of a machine's folder that attempts resume from."""

    def read(machine: str = "here") -> dict[str, str]:
        paths = [path for path in (tmp_path / machine).iterdir() if path.suffix in (".pt", ".ledger")]
        return {path.name: path.read_text() for path in paths}

    return read


@pytest.fixture
def next_attempt(sessions, running_job):
    """Return the number of a new attempt, after the last was released."""

    def claim(after: int) -> int:
        with sessions.begin() as session:
            lifecycle.release(session, running_job, after, reason="worker-stopped")
            return lifecycle.claim(session, running_job, worker="there:1", lease_seconds=60).attempt

    return claim


@pytest.fixture
def read_storage(sessions, running_job, storage):
    """Return the files that the next attempt would find in storage: content by name."""

    def read() -> dict[str, str]:
        with sessions() as session:
            checkpoint = queries.find_job(session, running_job).checkpoint or {}
        return {name: read_content(storage, sha256).decode() for name, sha256 in checkpoint.items()}

    return read


def files(storage: Storage) -> list[str]:
    """Return the contents of all files in storage, referenced or not."""
    return [content.decode() for content in read_contents(storage)]


def test_another_machine_goes_on(running_job, open_checkpoint, save, read_folder, next_attempt):
    """An attempt on another machine starts with exactly the files that the attempt before it stored."""
    checkpoint = open_checkpoint(running_job)
    save("epoch 1")
    save("a line\n", "before.ledger")
    save("weights", "result.safetensors")
    checkpoint.store()
    open_checkpoint(running_job, next_attempt(1), "there").fetch()
    assert read_folder("there") == {"training.pt": "epoch 1", "before.ledger": "a line\n"}


def test_first_attempt_finds_nothing(running_job, open_checkpoint, read_folder):
    """A job that has stored nothing starts in an empty folder."""
    open_checkpoint(running_job).fetch()
    assert read_folder() == {}


def test_only_the_last_is_stored(running_job, open_checkpoint, save, storage, read_storage):
    """However often a file changes, storage holds it once, in its last stored version."""
    checkpoint = open_checkpoint(running_job)
    save("a line\n", "before.ledger")
    for epoch in range(3):
        save(f"epoch {epoch}")
        checkpoint.store()
    assert read_storage() == {"training.pt": "epoch 2", "before.ledger": "a line\n"}
    assert files(storage) == ["a line\n", "epoch 2"]


def test_what_did_not_change_is_not_copied(running_job, open_checkpoint, save, storage, read_storage, monkeypatch):
    """A file as large as a network's state is copied again only when it has changed."""
    checkpoint = open_checkpoint(running_job)
    save("epoch 1")
    checkpoint.store()
    copy_calls, put_file = [], storage.put_file
    monkeypatch.setattr(
        storage, "put_file", lambda file, **kinds: copy_calls.append(file.name) or put_file(file, **kinds)
    )
    checkpoint.store()
    save("a line\n", "after.ledger")
    checkpoint.store()
    assert copy_calls == ["after.ledger"]
    assert read_storage() == {"training.pt": "epoch 1", "after.ledger": "a line\n"}


def test_what_a_machine_has_beyond_storage_is_kept(running_job, open_checkpoint, save, read_folder, next_attempt):
    """An attempt on the same machine resumes from the folder, which is newer than the stored files."""
    checkpoint = open_checkpoint(running_job)
    save("epoch 1")
    checkpoint.store()
    save("epoch 2")
    open_checkpoint(running_job, next_attempt(1)).fetch()
    assert read_folder() == {"training.pt": "epoch 2"}


def test_what_another_machine_did_since_replaces_the_folder(
    running_job, open_checkpoint, save, read_folder, next_attempt
):
    """An attempt on a machine with old files resumes from the files that attempts elsewhere have stored since."""
    first = open_checkpoint(running_job)
    save("epoch 1")
    first.store()
    second = open_checkpoint(running_job, next_attempt(1), "there")
    second.fetch()
    save("epoch 2", machine="there")
    second.store()
    open_checkpoint(running_job, next_attempt(2)).fetch()
    assert read_folder() == {"training.pt": "epoch 2"}


@pytest.mark.parametrize("lost", ["training.pt", "stored.json"])
def test_a_file_that_a_folder_has_lost_is_fetched(
    running_job, open_checkpoint, save, read_folder, next_attempt, tmp_path, lost
):
    """A deleted file is fetched, and all files are fetched where the content of the folder is unknown."""
    checkpoint = open_checkpoint(running_job)
    save("epoch 1")
    checkpoint.store()
    (tmp_path / "here" / lost).unlink()
    open_checkpoint(running_job, next_attempt(1)).fetch()
    assert read_folder() == {"training.pt": "epoch 1"}


def test_half_written_note_is_none(running_job, open_checkpoint, save, read_folder, next_attempt, tmp_path):
    """Where a crash cut the note on the folder's content, the folder is fetched."""
    checkpoint = open_checkpoint(running_job)
    save("epoch 1")
    checkpoint.store()
    note = tmp_path / "here" / "stored.json"
    note.write_text(note.read_text()[:20])
    save("epoch 0")
    open_checkpoint(running_job, next_attempt(1)).fetch()
    assert read_folder() == {"training.pt": "epoch 1"}


@pytest.mark.parametrize("instead", [None, b"epo"], ids=["missing", "cut"])
def test_damaged_copy_is_done_without(
    running_job, open_checkpoint, save, read_folder, read_storage, next_attempt, storage, caplog, instead
):
    """A copy that storage lost or cut is reported and ignored; the other files are fetched, and the next copy is complete."""
    checkpoint = open_checkpoint(running_job)
    save("epoch 1")
    save("a line\n", "before.ledger")
    checkpoint.store()
    if instead is None:
        storage.remove(hashlib.sha256(b"epoch 1").hexdigest())
    else:
        overwrite(storage, b"epoch 1", instead)
    second = open_checkpoint(running_job, next_attempt(1), "there")
    second.fetch()
    assert read_folder("there") == {"before.ledger": "a line\n"}
    assert "training.pt is lost or damaged" in caplog.text
    save("epoch 1 again", machine="there")
    second.store()
    assert read_storage() == {"training.pt": "epoch 1 again", "before.ledger": "a line\n"}


@pytest.mark.parametrize("content", ["epoch 2", "epoch 3"], ids=["the same file", "another file"])
def test_lost_attempt_harms_no_later_one(
    running_job, open_checkpoint, save, next_attempt, storage, read_storage, tmp_path, content
):
    """An attempt that lost its job cannot refer to its files or remove those of its successor, and is stopped."""
    stale = open_checkpoint(running_job, seconds=0)
    save("epoch 1")
    stale.store()
    later = open_checkpoint(running_job, next_attempt(1), "there")
    later.fetch()
    save("epoch 2", machine="there")
    later.store()
    save(content)
    with pytest.raises(LeaseLost):
        stale.store()
    with pytest.raises(Cancelled):
        stale.store_if_due()
    assert read_storage() == {"training.pt": "epoch 2"}
    save("epoch 4", machine="there")
    later.store()
    assert files(storage) == ["epoch 4"]


def test_lost_attempt_removes_nothing(running_job, open_checkpoint, save, storage, read_storage, monkeypatch):
    """An attempt that loses its job between reference and removal leaves the removal to its successor."""
    stale = open_checkpoint(running_job)
    save("epoch 1")
    stale.store()
    keep = lifecycle.record_checkpoint

    def lost_afterwards(session, job_id, *arguments):
        keep(session, job_id, *arguments)
        lifecycle.release(session, job_id, 1, reason="worker-lost")
        lifecycle.claim(session, job_id, worker="there:1", lease_seconds=60)

    monkeypatch.setattr(lifecycle, "record_checkpoint", lost_afterwards)
    save("epoch 2")
    with pytest.raises(LeaseLost):
        stale.store()
    assert read_storage() == {"training.pt": "epoch 2"}
    assert files(storage) == ["epoch 1", "epoch 2"]


class SimulatedKill(BaseException):
    """Simulates the end of the process at that point."""


def kill(*_: object) -> None:
    """Raise Killed."""
    raise SimulatedKill


@pytest.mark.parametrize(
    ("step", "content_left", "files_left"),
    [
        ("_store_file", "epoch 1", ["epoch 1"]),
        ("record_checkpoint", "epoch 1", ["epoch 1", "epoch 2"]),
        ("retain", "epoch 2", ["epoch 1", "epoch 2"]),
    ],
    ids=["while it is put", "before the reference", "before the removal"],
)
def test_killed_at_any_point(
    running_job,
    open_checkpoint,
    save,
    read_folder,
    next_attempt,
    storage,
    read_storage,
    monkeypatch,
    step,
    content_left,
    files_left,
):
    """A kill between any two steps of storing loses nothing; surplus files are removed by the next copy."""
    checkpoint = open_checkpoint(running_job)
    save("epoch 1")
    checkpoint.store()
    save("epoch 2")
    with monkeypatch.context() as patch:
        patch.setattr(lifecycle if hasattr(lifecycle, step) else storage, step, kill)
        with pytest.raises(SimulatedKill):
            checkpoint.store()
    assert read_storage() == {"training.pt": content_left}
    assert files(storage) == files_left
    second = open_checkpoint(running_job, next_attempt(1), "there")
    second.fetch()
    assert read_folder("there") == {"training.pt": content_left}
    save("epoch 3", machine="there")
    second.store()
    assert files(storage) == ["epoch 3"]


def test_copies_keep_their_distance(running_job, open_checkpoint, save, read_storage):
    """No copy is stored before the interval has passed, unless it is requested."""
    checkpoint = open_checkpoint(running_job, seconds=60)
    save("epoch 1")
    checkpoint.store_if_due()
    assert read_storage() == {}
    checkpoint.store()
    assert read_storage() == {"training.pt": "epoch 1"}


def test_storing_takes_a_small_share_of_the_time(
    running_job, open_checkpoint, save, storage, read_storage, monkeypatch
):
    """After a copy that took 10 s the next one waits 200 s, although the setting is 0 s."""
    clock = [1000.0]
    monkeypatch.setattr(worker_checkpoint, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    checkpoint = open_checkpoint(running_job, seconds=0)
    put_file = storage.put_file

    def slow(file, **kinds):
        clock[0] += 10
        return put_file(file, **kinds)

    monkeypatch.setattr(storage, "put_file", slow)
    copies = []
    for now, content in [(1000, "epoch 1"), (1209, "epoch 2"), (1211, "epoch 3")]:
        clock[0] = now
        save(content)
        checkpoint.store_if_due()
        copies.append(read_storage()["training.pt"])
    assert copies == ["epoch 1", "epoch 1", "epoch 3"]


def test_full_storage_costs_no_job(running_job, open_checkpoint, save, storage, read_storage, monkeypatch, caplog):
    """Where storage is full the job continues, and a later copy is made."""
    checkpoint = open_checkpoint(running_job, seconds=0)
    save("epoch 1")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(storage, "_store_file", full)
        patch.setattr(worker_checkpoint, "_STORING_FRACTION", float("inf"))
        checkpoint.store_if_due()
    assert "was not stored: The disk is full" in caplog.text
    checkpoint.store_if_due()
    assert read_storage() == {"training.pt": "epoch 1"}
