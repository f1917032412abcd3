"""The table of files in storage: what they are, beside the bytes themselves."""

from sqlalchemy import select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from jobs.storage import Stored
from jobs.tables import Artifact, Dataset, Model


def record_artifact(session: Session, stored: Stored) -> None:
    """The file has a row; one that another transaction adds at the same moment is as good."""
    if session.get(Artifact, stored.sha256) is not None:
        return
    try:
        with session.begin_nested():
            session.add(Artifact(sha256=stored.sha256, size=stored.size, media_type=stored.media_type))
    except IntegrityError:
        if session.get(Artifact, stored.sha256) is None:
            raise


def artifact(session: Session, sha256: str) -> Artifact | None:
    """What is known of the file of that digest."""
    return session.get(Artifact, sha256)


def forget_upload(session: Session, model: Model) -> str | None:
    """The digest of the file that `model` was uploaded as, where nothing refers to that file any more.

    Its check is over, so the model needs it no longer. Remove the file itself after the commit.
    """
    sha256, model.upload_sha256 = model.upload_sha256, None
    session.flush()
    references = (Model.upload_sha256, Model.sha256, Dataset.sha256)
    if sha256 is None or any(session.scalar(select(column).where(column == sha256).limit(1)) for column in references):
        return None
    session.delete(session.get_one(Artifact, sha256))
    return sha256
