"""The table of files in storage: what they are, beside the bytes themselves."""

from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from jobs.errors import FileVanished
from jobs.storage import Storage, Stored
from jobs.tables import Artifact, Dataset, Job, Model, PartialUpload, UploadPart

REFERENCES = (
    (Model, Model.upload_sha256),
    (Model, Model.sha256),
    (Dataset, Dataset.sha256),
    (Job, Job.trained_sha256),
    (PartialUpload, PartialUpload.sha256),
    (UploadPart, UploadPart.sha256),
)
"""The tables and their columns that name a file."""


def record_artifact(session: Session, stored: Stored) -> None:
    """The file has a row, which stays until the transaction ends; one that another adds at the same moment is as good."""
    if _recorded(session, stored.sha256):
        return
    try:
        with session.begin_nested():
            session.add(Artifact(sha256=stored.sha256, size=stored.size, media_type=stored.media_type))
    except IntegrityError:
        if not _recorded(session, stored.sha256):
            raise


def require_there(storage: Storage, stored: Stored) -> None:
    """Returns if the file that was recorded in this transaction is still in storage.

    Raises: FileVanished, StoreUnavailable.
    """
    if not storage.exists(stored.sha256):
        raise FileVanished("The same file was removed at this moment; send it again.")


def _recorded(session: Session, sha256: str) -> bool:
    """Whether the file has a row, which then nobody removes until the transaction ends."""
    return session.get(Artifact, sha256, with_for_update={"read": True, "key_share": True}) is not None
