"""A job's checkpoint: files in its folder for the next attempt, and copies in storage, from which any machine resumes."""

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

_PATTERNS = ("*.pt", "*.ledger")  # what training and audits resume from; the rest of the folder is made again
_STORING_FRACTION = 0.05  # of a job's time that storing may take, for networks of any size
_MEDIA_TYPE = "application/octet-stream"


class Checkpoint:
    """The files that a job resumes from, in its folder, and the copies of them in the job's own storage.

    A copy is put first, then the jobs table refers to it, then files that no row refers to are removed. A crash in between
    leaves at worst a file too many, until the next removal or the job's end. Only the attempt that holds the lease
    refers and removes; an attempt that lost it can only put files.

    Args:
        job: as its attempt holds it.
        seconds: minimum time between two copies by `store_if_due`.
    """

    def __init__(self, job: Job, folder: Path, storage: Storage, sessions: Sessions, seconds: float) -> None:
        self._job_id, self._attempt, self._stored = job.id, job.attempt, dict(job.checkpoint or {})
        self._folder, self._storage, self._sessions, self._seconds = folder, storage, sessions, seconds
        self._states: dict[str, tuple[int, int]] = {}  # of the files as this attempt has stored them
        self._store_at = time.monotonic() + seconds

    @property
    def _digests_file(self) -> Path:
        """Return the path of the file with the digests that the folder's files had when they were last copied.

        The files may have grown since.
        """
        return self._folder / "stored.json"

    def fetch(self, patient: Storage | None = None) -> None:
        """Copy into the folder every stored file that is not there in this state or a later one.

        A copy that is lost or damaged is left out: computing again loses less than giving up.

        Args:
            patient: the same storage with more patience for a store that is unavailable; default: the storage for copies.

        Raises: StoreUnavailable, OSError.
        """
        local = self._read_digests()
        for name, sha256 in list(self._stored.items()):
            if local.get(name) == sha256 and (self._folder / name).exists():
                continue
            if not self._fetch_file(name, sha256, patient or self._storage):
                logger.warning("job %s: the stored copy of %s is lost or damaged", self._job_id, name)
                del self._stored[name]
        self._digests_file.write_text(json.dumps(self._stored))

    def store_if_due(self) -> None:
        """Store the folder's files unless that was done a short while ago; log a failure. Raises: Cancelled."""
        start = time.monotonic()
        if start < self._store_at:
            return
        try:
            self.store()
        except LeaseLost as lost:
            raise Cancelled(lost.message) from None
        except Exception as error:  # noqa: BLE001 - without a copy only another machine would have to start again
            logger.warning("the checkpoint of job %s was not stored: %s", self._job_id, error)
        end = time.monotonic()
        self._store_at = end + max(self._seconds, (end - start) / _STORING_FRACTION)

    def store(self) -> None:
        """Store the folder's files that have changed. Raises: LeaseLost, StorageFull, StoreUnavailable, OSError."""
        states = {path.name: _file_state(path) for pattern in _PATTERNS for path in self._folder.glob(pattern)}
        if states == self._states:
            return
        stored = {
            name: self._stored[name] if state == self._states.get(name) else self._put(name)
            for name, state in states.items()
        }
        with self._sessions.begin() as session:
            lifecycle.record_checkpoint(session, self._job_id, self._attempt, stored)
        self._stored, self._states = stored, states
        with self._sessions.begin() as session:
            lifecycle.lock_leased_job(session, self._job_id, self._attempt)  # so no later attempt has put anything yet
            self._storage.retain(stored.values())
        self._digests_file.write_text(json.dumps(stored))

    def _put(self, name: str) -> str:
        return self._storage.put_file(self._folder / name, media_type=_MEDIA_TYPE).sha256

    def _fetch_file(self, name: str, sha256: str, storage: Storage) -> bool:
        """Copy the file into the folder, and return whether its copy in storage was intact."""
        try:
            with storage.open(sha256) as copy:
                content.copy_verified(copy, sha256, self._folder / name)
        except (FileNotFoundError, FileLost):
            return False
        return True

    def _read_digests(self) -> dict[str, str]:
        try:
            digests: dict[str, str] = json.loads(self._digests_file.read_text())
        except (FileNotFoundError, ValueError):
            return {}
        return digests


def _file_state(file: Path) -> tuple[int, int]:
    """Return what differs after a change: the time of the change and the size."""
    status = file.stat()
    return status.st_mtime_ns, status.st_size
