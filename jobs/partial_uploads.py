"""Uploads in parts, for files too large to be sent again as a whole when a connection breaks.

Each part is a file of its own in storage. When all have arrived they are joined into one file, which can then be registered
as a model or data set, more than once. Uploads that nobody has used for a day are removed.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from jobs import removal
from jobs.artifacts import record_artifact, record_lost, require_in_storage
from jobs.clock import now
from jobs.content import verified_chunks
from jobs.database import Sessions
from jobs.errors import FileLost, FileVanished, UploadComplete, UploadIncomplete, UploadNotFound
from jobs.storage import Storage, StoredFile
from jobs.tables import Artifact, PartialUpload, UploadPart

PART_BYTES = 16 * 2**20  # of every part but the last


def begin(session: Session, *, owner: str, size: int) -> PartialUpload:
    """Create an upload of `size` bytes that has no parts yet."""
    upload = PartialUpload(owner=owner, size=size, part_bytes=PART_BYTES)
    session.add(upload)
    session.flush()
    return upload


def find(session: Session, upload_id: str) -> PartialUpload:
    """Return the upload of that id. Raises: UploadNotFound."""
    return _require_upload(session.get(PartialUpload, upload_id), upload_id)


def list_parts(session: Session, upload_id: str) -> list[UploadPart]:
    """Return the parts that have arrived, in order."""
    query = select(UploadPart).where(UploadPart.upload_id == upload_id).order_by(UploadPart.number)
    return list(session.scalars(query))


def part_size(upload: PartialUpload, number: int) -> int:
    """Return the bytes of that part, counted from 0; 0 or less for a number after the last."""
    return min(upload.part_bytes, upload.size - number * upload.part_bytes)


def require_open(upload: PartialUpload) -> None:
    """Check that the upload still takes parts. Raises: UploadComplete."""
    if upload.sha256 is not None:
        raise UploadComplete(f"The parts of {upload.id} were joined already. Begin a new upload for another file.")


def record_part(session: Session, storage: Storage, upload_id: str, number: int, stored: StoredFile) -> list[str]:
    """Record a part, and return the digest of an earlier one of that number, which it replaces: for `removal.discard`.

    Raises: UploadNotFound, UploadComplete, FileVanished.
    """
    upload = _lock_upload(session, upload_id)
    require_open(upload)
    upload.touched_at = now()
    record_artifact(session, stored)
    require_in_storage(storage, stored)
    part = UploadPart(upload_id=upload_id, number=number, owner=upload.owner, sha256=stored.sha256, size=stored.size)
    earlier = session.get(UploadPart, (upload_id, number))
    replaced = [] if earlier is None or earlier.sha256 == stored.sha256 else [earlier.sha256]
    session.merge(part)
    return replaced


def remove(session: Session, upload_id: str) -> list[str]:
    """Remove the upload, and return the digests of its files, for `removal.discard`. Raises: UploadNotFound."""
    upload = _lock_upload(session, upload_id)
    digests = [part.sha256 for part in list_parts(session, upload_id)] + ([upload.sha256] if upload.sha256 else [])
    _remove_parts(session, upload_id)
    session.delete(upload)
    return digests


def remove_abandoned(sessions: Sessions, seconds: float) -> None:
    """Remove the uploads that nobody has used for `seconds`."""
    with sessions.begin() as session:
        silent = select(PartialUpload.id).where(PartialUpload.touched_at < now(-seconds))
        for upload_id in session.scalars(silent.with_for_update(skip_locked=True)).all():
            remove(session, upload_id)


def read_head(sessions: Sessions, storage: Storage, upload_id: str, count: int) -> bytes:
    """Return the first `count` bytes of the file, or of its first part; this use keeps the upload for another day.

    Raises: UploadNotFound, UploadIncomplete; FileVanished; FileLost.
    """
    with sessions.begin() as session:
        upload = _lock_upload(session, upload_id)
        upload.touched_at = now()
        parts = list_parts(session, upload_id)
        if upload.sha256 is None:
            _require_all(upload, parts)
    first = upload.sha256 or parts[0].sha256
    with _lost_part_errors(sessions, upload_id, parts):
        try:
            with storage.open(first) as file:
                return file.read(count)
        except FileNotFoundError:
            raise FileLost(first, damaged=False) from None


def assemble(sessions: Sessions, storage: Storage, upload_id: str, *, media_type: str) -> StoredFile:
    """Return the file that the parts make; the first call joins them.

    Raises: UploadNotFound; UploadIncomplete; StorageFull; FileVanished; FileLost, after which the part can be sent again.
    """
    with sessions() as session:
        upload, parts = find(session, upload_id), list_parts(session, upload_id)
        artifact = None if upload.sha256 is None else session.get_one(Artifact, upload.sha256)
    if artifact is not None:
        return StoredFile(artifact.sha256, artifact.size, artifact.media_type)
    _require_all(upload, parts)
    with _lost_part_errors(sessions, upload_id, parts):
        stored = storage.put(_read_parts(storage, parts), media_type=media_type)
    with removal.discard_on_failure(sessions, storage, stored), sessions.begin() as session:
        upload = _lock_upload(session, upload_id)
        if upload.sha256 is None and _numbered_digests(parts) != _numbered_digests(list_parts(session, upload_id)):
            raise FileVanished("Another part arrived while the parts were joined. Send the request again.")
        record_artifact(session, stored)
        require_in_storage(storage, stored)
        upload.sha256 = stored.sha256
        _remove_parts(session, upload_id)
    removal.discard(sessions, storage, {part.sha256 for part in parts} - {stored.sha256})
    return stored


def _require_upload(upload: PartialUpload | None, upload_id: str) -> PartialUpload:
    if upload is None:
        raise UploadNotFound(
            f"There is no upload {upload_id!r}. It may have been removed after a day without use; begin a new one."
        )
    return upload


def _lock_upload(session: Session, upload_id: str) -> PartialUpload:
    """Return the upload, which no other transaction changes until this one ends. Raises: UploadNotFound."""
    return _require_upload(
        session.get(PartialUpload, upload_id, with_for_update=True, populate_existing=True), upload_id
    )


def _numbered_digests(parts: list[UploadPart]) -> list[tuple[int, str]]:
    return [(part.number, part.sha256) for part in parts]


@contextmanager
def _lost_part_errors(sessions: Sessions, upload_id: str, parts: list[UploadPart]) -> Iterator[None]:
    """Raise FileVanished where the block cannot read a part that another request has joined or removed, else FileLost."""
    try:
        yield
    except FileLost as error:
        with sessions() as session:
            upload = session.get(PartialUpload, upload_id)
            unchanged = upload is not None and (
                upload.sha256 == error.sha256
                or _numbered_digests(list_parts(session, upload_id)) == _numbered_digests(parts)
            )
        if not unchanged:
            raise FileVanished("Another request joined or removed the parts. Send the request again.") from None
        record_lost(sessions, error)
        raise


def _require_all(upload: PartialUpload, parts: list[UploadPart]) -> None:
    """Check that no part is missing. Raises: UploadIncomplete."""
    numbers = {part.number for part in parts}
    count = -(-upload.size // upload.part_bytes)
    if missing := [number for number in range(count) if number not in numbers]:
        listed = ", ".join(map(str, missing[:20])) + (" …" if len(missing) > 20 else "")
        raise UploadIncomplete(
            f"Of the {count} parts of {upload.id}, these are missing: {listed}. Send them, then send the request again."
        )


def _read_parts(storage: Storage, parts: list[UploadPart]) -> Iterator[bytes]:
    for part in parts:
        try:
            with storage.open(part.sha256) as file:
                yield from verified_chunks(file, part.sha256)
        except FileNotFoundError:
            raise FileLost(part.sha256, damaged=False) from None


def _remove_parts(session: Session, upload_id: str) -> None:
    session.execute(delete(UploadPart).where(UploadPart.upload_id == upload_id))
