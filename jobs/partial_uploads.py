"""Uploads in parts, for files too large to be sent again as a whole when a connection breaks.

Parts lie in storage as files of their own. When all are there they become one file, which can then be registered as a model or
data set, more than once; what nobody has touched for a day is forgotten.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from jobs import removal
from jobs.artifacts import note_lost, record_artifact, require_there
from jobs.clock import now
from jobs.content import whole_pieces
from jobs.database import Sessions
from jobs.errors import FileLost, FileVanished, UploadComplete, UploadIncomplete, UploadNotFound
from jobs.storage import Storage, Stored
from jobs.tables import Artifact, PartialUpload, UploadPart

PART_BYTES = 16 * 2**20  # of every part but the last


def begin(session: Session, *, owner: str, size: int) -> PartialUpload:
    """An upload of so many bytes, of which no part is there."""
    upload = PartialUpload(owner=owner, size=size, part_bytes=PART_BYTES)
    session.add(upload)
    session.flush()
    return upload


def find(session: Session, upload_id: str) -> PartialUpload:
    """The upload of that id. Raises: UploadNotFound."""
    return _found(session.get(PartialUpload, upload_id), upload_id)


def parts(session: Session, upload_id: str) -> list[UploadPart]:
    """Its parts that are there, in order."""
    there = select(UploadPart).where(UploadPart.upload_id == upload_id).order_by(UploadPart.number)
    return list(session.scalars(there))


def part_size(upload: PartialUpload, number: int) -> int:
    """The bytes of that part, counted from 0; 0 or less for one behind the last."""
    return min(upload.part_bytes, upload.size - number * upload.part_bytes)


def require_open(upload: PartialUpload) -> None:
    """Returns if parts may still come. Raises: UploadComplete."""
    if upload.sha256 is not None:
        raise UploadComplete(
            f"The parts of {upload.id} were put together already; begin another upload for another file."
        )


def keep_part(session: Session, storage: Storage, upload_id: str, number: int, stored: Stored) -> list[str]:
    """Record a part, and return the digest of an earlier one of that number, which it replaces: for `removal.discard`.

    Raises: UploadNotFound, UploadComplete, FileVanished.
    """
    upload = _locked(session, upload_id)
    require_open(upload)
    upload.touched_at = now()
    record_artifact(session, stored)
    require_there(storage, stored)
    part = UploadPart(upload_id=upload_id, number=number, owner=upload.owner, sha256=stored.sha256, size=stored.size)
    earlier = session.get(UploadPart, (upload_id, number))
    replaced = [] if earlier is None or earlier.sha256 == stored.sha256 else [earlier.sha256]
    session.merge(part)
    return replaced


def remove(session: Session, upload_id: str) -> list[str]:
    """Forget the upload, and return the digests of its files, for `removal.discard`. Raises: UploadNotFound."""
    upload = _locked(session, upload_id)
    digests = [part.sha256 for part in parts(session, upload_id)] + ([upload.sha256] if upload.sha256 else [])
    _remove_parts(session, upload_id)
    session.delete(upload)
    return digests


def remove_silent(sessions: Sessions, seconds: float) -> None:
    """Uploads that nobody has touched for so long are forgotten."""
    with sessions.begin() as session:
        silent = select(PartialUpload.id).where(PartialUpload.touched_at < now(-seconds))
        for upload_id in session.scalars(silent.with_for_update(skip_locked=True)).all():
            remove(session, upload_id)


def head(sessions: Sessions, storage: Storage, upload_id: str, count: int) -> bytes:
    """The first so many bytes of the file, or of its first part; what is touched so is not forgotten for a day.

    Raises: UploadNotFound, UploadIncomplete; FileVanished; FileLost.
    """
    with sessions.begin() as session:
        upload = _locked(session, upload_id)
        upload.touched_at = now()
        there = parts(session, upload_id)
        if upload.sha256 is None:
            _require_all(upload, there)
    first = upload.sha256 or there[0].sha256
    with _still_there(sessions, upload_id, there):
        try:
            with storage.open(first) as file:
                return file.read(count)
        except FileNotFoundError:
            raise FileLost(first, damaged=False) from None


def whole(sessions: Sessions, storage: Storage, upload_id: str, *, media_type: str) -> Stored:
    """The file that its parts make, put together when it is asked for the first time.

    Raises: UploadNotFound; UploadIncomplete; StorageFull; FileVanished; FileLost, after which the part can be sent again.
    """
    with sessions() as session:
        upload, there = find(session, upload_id), parts(session, upload_id)
        artifact = None if upload.sha256 is None else session.get_one(Artifact, upload.sha256)
    if artifact is not None:
        return Stored(artifact.sha256, artifact.size, artifact.media_type)
    _require_all(upload, there)
    with _still_there(sessions, upload_id, there):
        stored = storage.put(_content(storage, there), media_type=media_type)
    with removal.discarded_on_failure(sessions, storage, stored), sessions.begin() as session:
        upload = _locked(session, upload_id)
        if upload.sha256 is None and _named(there) != _named(parts(session, upload_id)):
            raise FileVanished("Another part came while these were put together; ask again.")
        record_artifact(session, stored)
        require_there(storage, stored)
        upload.sha256 = stored.sha256
        _remove_parts(session, upload_id)
    removal.discard(sessions, storage, {part.sha256 for part in there} - {stored.sha256})
    return stored


def _found(upload: PartialUpload | None, upload_id: str) -> PartialUpload:
    if upload is None:
        raise UploadNotFound(f"There is no upload {upload_id!r}; it may have been forgotten after a day of silence.")
    return upload


def _locked(session: Session, upload_id: str) -> PartialUpload:
    """The upload, which nobody else changes until the transaction ends. Raises: UploadNotFound."""
    return _found(session.get(PartialUpload, upload_id, with_for_update=True, populate_existing=True), upload_id)


def _named(there: list[UploadPart]) -> list[tuple[int, str]]:
    return [(part.number, part.sha256) for part in there]


@contextmanager
def _still_there(sessions: Sessions, upload_id: str, there: list[UploadPart]) -> Iterator[None]:
    """Within, files are read that another request may put together and have removed. Raises: FileVanished; FileLost."""
    try:
        yield
    except FileLost as lost:
        with sessions() as session:
            upload = session.get(PartialUpload, upload_id)
            unchanged = upload is not None and (
                upload.sha256 == lost.sha256 or _named(parts(session, upload_id)) == _named(there)
            )
        if not unchanged:
            raise FileVanished("The parts were put together by another request, or forgotten; ask again.") from None
        note_lost(sessions, lost)
        raise


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
        try:
            with storage.open(part.sha256) as file:
                yield from whole_pieces(file, part.sha256)
        except FileNotFoundError:
            raise FileLost(part.sha256, damaged=False) from None


def _remove_parts(session: Session, upload_id: str) -> None:
    session.execute(delete(UploadPart).where(UploadPart.upload_id == upload_id))
