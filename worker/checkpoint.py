"""What a job keeps for its next attempt: files in its folder, and copies in storage, from which any machine goes on."""

import json
import logging
import time
from pathlib import Path

from faal_core.progress import Cancelled
from jobs import content, lifecycle
from jobs.database import Sessions
from jobs.errors import FileLost, LeaseLost
from jobs.storage import Storage
from jobs.tables import Job

logger = logging.getLogger(__name__)

_KEPT = ("*.pt", "*.ledger")  # what training and audits go on from; the rest of the folder is made anew
_SHARE = 0.05  # of a job's time that storing may take, however large the network is
_MEDIA_TYPE = "application/octet-stream"


class Checkpoint:
    """The files that a job goes on from, in its folder, and the copies of them in the job's own storage.

    A copy is put first, then the jobs table refers to it, then what nothing refers to is removed; a crash in between
    leaves at worst a file too many, until the next removal or the job's end. Only the attempt that holds the job
    refers and removes: whoever lost it can put files, and that is all.

    Args:
        job: as its attempt holds it.
        seconds: `follow` lets so many pass between two copies.
    """

    def __init__(self, job: Job, folder: Path, storage: Storage, sessions: Sessions, seconds: float) -> None:
        self._job_id, self._attempt, self._stored = job.id, job.attempt, dict(job.checkpoint or {})
        self._folder, self._storage, self._sessions, self._seconds = folder, storage, sessions, seconds
        self._states: dict[str, tuple[int, int]] = {}  # of the files as this attempt has stored them
        self._store_at = time.monotonic() + seconds

    @property
    def _note(self) -> Path:
        """Which copies the folder's files were once equal to: they are as far as these, or further."""
        return self._folder / "stored.json"

    def fetch(self, patient: Storage | None = None) -> None:
        """Every file that is in storage is in the folder, as it is there or further. Raises: StoreUnavailable, OSError.

        A copy that is lost or spoilt is done without: computing anew loses less than giving up.

        Args:
            patient: the same storage, which waits longer for one that is away; when absent the one that copies are put into.
        """
        here = self._noted()
        for name, sha256 in list(self._stored.items()):
            if here.get(name) == sha256 and (self._folder / name).exists():
                continue
            if not self._fetched(name, sha256, patient or self._storage):
                logger.warning("job %s: the stored copy of %s is lost or damaged", self._job_id, name)
                del self._stored[name]
        self._note.write_text(json.dumps(self._stored))

    def follow(self) -> None:
        """What the folder holds is in storage, unless that was seen to a short while ago or fails. Raises: Cancelled."""
        begun = time.monotonic()
        if begun < self._store_at:
            return
        try:
            self.store()
        except LeaseLost as lost:
            raise Cancelled(lost.message) from None
        except Exception as error:  # noqa: BLE001 - without a copy only another machine would have to begin anew
            logger.warning("the checkpoint of job %s was not stored: %s", self._job_id, error)
        ended = time.monotonic()
        self._store_at = ended + max(self._seconds, (ended - begun) / _SHARE)

    def store(self) -> None:
        """What the folder holds is in storage, each file once. Raises: LeaseLost, StorageFull, StoreUnavailable, OSError."""
        states = {path.name: _state(path) for pattern in _KEPT for path in self._folder.glob(pattern)}
        if states == self._states:
            return
        stored = {
            name: self._stored[name] if state == self._states.get(name) else self._put(name)
            for name, state in states.items()
        }
        with self._sessions.begin() as session:
            lifecycle.keep_checkpoint(session, self._job_id, self._attempt, stored)
        self._stored, self._states = stored, states
        with self._sessions.begin() as session:
            lifecycle.hold(session, self._job_id, self._attempt)  # so no later attempt has put anything yet
            self._storage.retain(stored.values())
        self._note.write_text(json.dumps(stored))

    def _put(self, name: str) -> str:
        return self._storage.put_file(self._folder / name, media_type=_MEDIA_TYPE).sha256

    def _fetched(self, name: str, sha256: str, storage: Storage) -> bool:
        """Whether the copy was there, and now is in the folder."""
        try:
            with storage.open(sha256) as copy:
                content.copy(copy, sha256, self._folder / name)
        except (FileNotFoundError, FileLost):
            return False
        return True

    def _noted(self) -> dict[str, str]:
        try:
            noted: dict[str, str] = json.loads(self._note.read_text())
        except (FileNotFoundError, ValueError):
            return {}
        return noted


def _state(file: Path) -> tuple[int, int]:
    """What differs after a change: when it was, and the size."""
    status = file.stat()
    return status.st_mtime_ns, status.st_size
