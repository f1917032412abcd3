"""Uploads in parts, for files too large to be sent again as a whole when a connection breaks.

Parts lie in storage as files of their own. When all are there they become one file, which can then be registered as a model or
data set, more than once; what nobody has touched for a day is forgotten.
"""

from collections.abc import Iterator

from sqlalchemy import delete, select, update
from sqlalchemy.orm import Session

from jobs.artifacts import record_artifact, require_there
from jobs.clock import now
from jobs.database import Sessions
from jobs.errors import UploadIncomplete, UploadNotFound
from jobs.storage import Storage, Stored
from jobs.tables import Artifact, PartialUpload, UploadPart

PART_BYTES = 16 * 2**20  # of every part but the last
_CHUNK_BYTES = 2**20


def begin(session: Session, *, owner: str, size: int) -> PartialUpload:
    """An upload of so many bytes, of which no part is there."""
    upload = PartialUpload(owner=owner, size=size, part_bytes=PART_BYTES)
    session.add(upload)
    session.flush()
    return upload


def find(session: Session, upload_id: str) -> PartialUpload:
    """The upload of that id. Raises: UploadNotFound."""
    found = session.get(PartialUpload, upload_id)
    if found is None:
        raise UploadNotFound(f"There is no upload {upload_id!r}; it may have been forgotten after a day of silence.")
    return found


def parts(session: Session, upload_id: str) -> list[UploadPart]:
    """Its parts that are there, in order."""
    there = select(UploadPart).where(UploadPart.upload_id == upload_id).order_by(UploadPart.number)
    return list(session.scalars(there))


def part_size(upload: PartialUpload, number: int) -> int:
    """The bytes of that part, counted from 0; 0 or less for one behind the last."""
    return min(upload.part_bytes, upload.size - number * upload.part_bytes)


def keep_part(session: Session, storage: Storage, upload_id: str, number: int, stored: Stored) -> None:
    """The part is there, in place of an earlier one of that number; of a file that is whole already nothing changes.

    Raises: UploadNotFound, FileVanished.
    """
    session.execute(update(PartialUpload).where(PartialUpload.id == upload_id).values(touched_at=now()))
    upload = find(session, upload_id)
    if upload.sha256 is not None:
        return
    record_artifact(session, stored)
    require_there(storage, stored)
    part = UploadPart(upload_id=upload_id, number=number, owner=upload.owner, sha256=stored.sha256, size=stored.size)
    session.merge(part)


def remove(session: Session, upload_id: str) -> None:
    """The upload is forgotten. Raises: UploadNotFound."""
    upload = find(session, upload_id)
    _remove_parts(session, upload_id)
    session.delete(upload)


def remove_silent(sessions: Sessions, seconds: float) -> None:
    """Uploads that nobody has touched for so long are forgotten."""
    with sessions.begin() as session:
        silent = select(PartialUpload.id).where(PartialUpload.touched_at < now(-seconds))
        for upload_id in session.scalars(silent.with_for_update(skip_locked=True)).all():
            remove(session, upload_id)


def whole(sessions: Sessions, storage: Storage, upload_id: str, *, media_type: str) -> Stored:
    """The file that its parts make, put together when it is asked for the first time.

    Raises: UploadNotFound; UploadIncomplete; StorageFull; FileVanished.
    """
    with sessions() as session:
        upload, there = find(session, upload_id), parts(session, upload_id)
        artifact = None if upload.sha256 is None else session.get_one(Artifact, upload.sha256)
    if artifact is not None:
        return Stored(artifact.sha256, artifact.size, artifact.media_type)
    _require_all(upload, there)
    stored = storage.put(_content(storage, there), media_type=media_type)
    with sessions.begin() as session:
        record_artifact(session, stored)
        require_there(storage, stored)
        found = find(session, upload_id)
        found.sha256, found.touched_at = stored.sha256, now()
        _remove_parts(session, upload_id)
    return stored


def head(sessions: Sessions, storage: Storage, upload_id: str, count: int) -> bytes:
    """The first so many bytes of the file, or all of a shorter one. Raises: UploadNotFound, UploadIncomplete."""
    with sessions() as session:
        upload, there = find(session, upload_id), parts(session, upload_id)
    if upload.sha256 is None:
        _require_all(upload, there)
    with storage.open(upload.sha256 or there[0].sha256) as file:
        return file.read(count)


def _require_all(upload: PartialUpload, there: list[UploadPart]) -> None:
    """Raises: UploadIncomplete where a part is missing."""
    numbers = {part.number for part in there}
    count = -(-upload.size // upload.part_bytes)
    if missing := [number for number in range(count) if number not in numbers]:
        listed = ", ".join(map(str, missing[:20])) + (" …" if len(missing) > 20 else "")
        raise UploadIncomplete(
            f"Of {upload.id}'s {count} parts these are missing: {listed}. Send them, then ask again."
        )


def _content(storage: Storage, there: list[UploadPart]) -> Iterator[bytes]:
    for part in there:
        with storage.open(part.sha256) as file:
            while chunk := file.read(_CHUNK_BYTES):
                yield chunk


def _remove_parts(session: Session, upload_id: str) -> None:
    session.execute(delete(UploadPart).where(UploadPart.upload_id == upload_id))
