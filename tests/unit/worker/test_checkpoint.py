"""What an attempt saved is found by the next one on any machine, is there once, and is safe from attempts that lost the job."""

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

    def saved(content: str, name: str = "training.pt", machine: str = "here") -> None:
        partial = tmp_path / machine / f"{name}.new"
        partial.write_text(content)
        partial.replace(tmp_path / machine / name)

    return saved


@pytest.fixture
def found(tmp_path):
    """Return the files of a machine's folder that attempts resume from."""

    def read(machine: str = "here") -> dict[str, str]:
        kept = [path for path in (tmp_path / machine).iterdir() if path.suffix in (".pt", ".ledger")]
        return {path.name: path.read_text() for path in kept}

    return read


@pytest.fixture
def next_attempt(sessions, running_job):
    """Return the number of a new attempt, after the last was released."""

    def claimed(after: int) -> int:
        with sessions.begin() as session:
            lifecycle.release(session, running_job, after, reason="worker-stopped")
            return lifecycle.claim(session, running_job, worker="there:1", lease_seconds=60).attempt

    return claimed


@pytest.fixture
def referred(sessions, running_job, storage):
    """Return what the next attempt would find in storage: content by name."""

    def read() -> dict[str, str]:
        with sessions() as session:
            checkpoint = queries.find_job(session, running_job).checkpoint or {}
        return {name: read_content(storage, sha256).decode() for name, sha256 in checkpoint.items()}

    return read


def files(storage: Storage) -> list[str]:
    """Return the contents of all files in storage, whatever refers to them."""
    return [content.decode() for content in read_contents(storage)]


def test_another_machine_goes_on(running_job, open_checkpoint, save, found, next_attempt):
    """An attempt elsewhere begins with the files of the one before, and with nothing else of its folder."""
    checkpoint = open_checkpoint(running_job)
    save("epoch 1")
    save("a line\n", "before.ledger")
    save("weights", "result.safetensors")
    checkpoint.store()
    open_checkpoint(running_job, next_attempt(1), "there").fetch()
    assert found("there") == {"training.pt": "epoch 1", "before.ledger": "a line\n"}


def test_first_attempt_finds_nothing(running_job, open_checkpoint, found):
    """A job that has stored nothing begins in an empty folder."""
    open_checkpoint(running_job).fetch()
    assert found() == {}


def test_only_the_last_is_stored(running_job, open_checkpoint, save, storage, referred):
    """However often a file changes, storage holds it once, as it was last stored."""
    checkpoint = open_checkpoint(running_job)
    save("a line\n", "before.ledger")
    for epoch in range(3):
        save(f"epoch {epoch}")
        checkpoint.store()
    assert referred() == {"training.pt": "epoch 2", "before.ledger": "a line\n"}
    assert files(storage) == ["a line\n", "epoch 2"]


def test_what_did_not_change_is_not_copied(running_job, open_checkpoint, save, storage, referred, monkeypatch):
    """A file as large as a network's state is copied again only when it is another."""
    checkpoint = open_checkpoint(running_job)
    save("epoch 1")
    checkpoint.store()
    copied, put_file = [], storage.put_file
    monkeypatch.setattr(storage, "put_file", lambda file, **kinds: copied.append(file.name) or put_file(file, **kinds))
    checkpoint.store()
    save("a line\n", "after.ledger")
    checkpoint.store()
    assert copied == ["after.ledger"]
    assert referred() == {"training.pt": "epoch 1", "after.ledger": "a line\n"}


def test_what_a_machine_has_beyond_storage_is_kept(running_job, open_checkpoint, save, found, next_attempt):
    """An attempt where the last one was goes on from the folder, which is further than what was stored."""
    checkpoint = open_checkpoint(running_job)
    save("epoch 1")
    checkpoint.store()
    save("epoch 2")
    open_checkpoint(running_job, next_attempt(1)).fetch()
    assert found() == {"training.pt": "epoch 2"}


def test_what_another_machine_did_since_replaces_the_folder(running_job, open_checkpoint, save, found, next_attempt):
    """An attempt on a machine that was left behind goes on from what the attempts elsewhere have stored since."""
    first = open_checkpoint(running_job)
    save("epoch 1")
    first.store()
    second = open_checkpoint(running_job, next_attempt(1), "there")
    second.fetch()
    save("epoch 2", machine="there")
    second.store()
    open_checkpoint(running_job, next_attempt(2)).fetch()
    assert found() == {"training.pt": "epoch 2"}


@pytest.mark.parametrize("lost", ["training.pt", "stored.json"])
def test_a_file_that_a_folder_has_lost_is_fetched(
    running_job, open_checkpoint, save, found, next_attempt, tmp_path, lost
):
    """A file that is gone is fetched, and so is all where it is not known what the folder holds."""
    checkpoint = open_checkpoint(running_job)
    save("epoch 1")
    checkpoint.store()
    (tmp_path / "here" / lost).unlink()
    open_checkpoint(running_job, next_attempt(1)).fetch()
    assert found() == {"training.pt": "epoch 1"}


def test_half_written_note_is_none(running_job, open_checkpoint, save, found, next_attempt, tmp_path):
    """Where a crash cut the note of what the folder holds, the folder is fetched."""
    checkpoint = open_checkpoint(running_job)
    save("epoch 1")
    checkpoint.store()
    note = tmp_path / "here" / "stored.json"
    note.write_text(note.read_text()[:20])
    save("epoch 0")
    open_checkpoint(running_job, next_attempt(1)).fetch()
    assert found() == {"training.pt": "epoch 1"}


@pytest.mark.parametrize("instead", [None, b"epo"], ids=["missing", "cut"])
def test_damaged_copy_is_done_without(
    running_job, open_checkpoint, save, found, referred, next_attempt, storage, caplog, instead
):
    """A copy that storage lost or cut is told and left; the other files are fetched, and the next copy is whole again."""
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
    assert found("there") == {"before.ledger": "a line\n"}
    assert "training.pt is lost or damaged" in caplog.text
    save("epoch 1 again", machine="there")
    second.store()
    assert referred() == {"training.pt": "epoch 1 again", "before.ledger": "a line\n"}


@pytest.mark.parametrize("content", ["epoch 2", "epoch 3"], ids=["the same file", "another file"])
def test_lost_attempt_harms_no_later_one(
    running_job, open_checkpoint, save, next_attempt, storage, referred, tmp_path, content
):
    """An attempt that lost its job cannot refer to its files or remove those of its successor, and is told to stop."""
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
    assert referred() == {"training.pt": "epoch 2"}
    save("epoch 4", machine="there")
    later.store()
    assert files(storage) == ["epoch 4"]


def test_lost_attempt_removes_nothing(running_job, open_checkpoint, save, storage, referred, monkeypatch):
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
    assert referred() == {"training.pt": "epoch 2"}
    assert files(storage) == ["epoch 1", "epoch 2"]


class Killed(BaseException):
    """Stands for the end of the process at that point."""


def kill(*_: object) -> None:
    """Raise Killed."""
    raise Killed


@pytest.mark.parametrize(
    ("at", "left", "files_left"),
    [
        ("_store_file", "epoch 1", ["epoch 1"]),
        ("record_checkpoint", "epoch 1", ["epoch 1", "epoch 2"]),
        ("retain", "epoch 2", ["epoch 1", "epoch 2"]),
    ],
    ids=["while it is put", "before the reference", "before the removal"],
)
def test_killed_at_any_point(
    running_job, open_checkpoint, save, found, next_attempt, storage, referred, monkeypatch, at, left, files_left
):
    """Killed between its steps, storing loses nothing; what is too much goes with the next copy."""
    checkpoint = open_checkpoint(running_job)
    save("epoch 1")
    checkpoint.store()
    save("epoch 2")
    with monkeypatch.context() as patch:
        patch.setattr(lifecycle if hasattr(lifecycle, at) else storage, at, kill)
        with pytest.raises(Killed):
            checkpoint.store()
    assert referred() == {"training.pt": left}
    assert files(storage) == files_left
    second = open_checkpoint(running_job, next_attempt(1), "there")
    second.fetch()
    assert found("there") == {"training.pt": left}
    save("epoch 3", machine="there")
    second.store()
    assert files(storage) == ["epoch 3"]


def test_copies_keep_their_distance(running_job, open_checkpoint, save, referred):
    """Before so many seconds have passed nothing is stored, unless it is asked for."""
    checkpoint = open_checkpoint(running_job, seconds=60)
    save("epoch 1")
    checkpoint.store_if_due()
    assert referred() == {}
    checkpoint.store()
    assert referred() == {"training.pt": "epoch 1"}


def test_storing_takes_a_small_share_of_the_time(running_job, open_checkpoint, save, storage, referred, monkeypatch):
    """After a copy that took 10 s the next one waits 200 s, though the setting asks for none."""
    clock = [1000.0]
    monkeypatch.setattr(worker_checkpoint, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    checkpoint = open_checkpoint(running_job, seconds=0)
    put_file = storage.put_file

    def slow(file, **kinds):
        clock[0] += 10
        return put_file(file, **kinds)

    monkeypatch.setattr(storage, "put_file", slow)
    stored = []
    for now, content in [(1000, "epoch 1"), (1209, "epoch 2"), (1211, "epoch 3")]:
        clock[0] = now
        save(content)
        checkpoint.store_if_due()
        stored.append(referred()["training.pt"])
    assert stored == ["epoch 1", "epoch 1", "epoch 3"]


def test_full_storage_costs_no_job(running_job, open_checkpoint, save, storage, referred, monkeypatch, caplog):
    """Where a copy finds no room the job goes on, and a later copy is made."""
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
    assert referred() == {"training.pt": "epoch 1"}
