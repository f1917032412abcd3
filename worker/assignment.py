"""What the code of a job is given, and what it gives back."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import torch

from faal_core import datasets, weights
from faal_core.classifier import Classifier
from faal_core.datasets.labelled_images import LabelledImages, Part
from faal_core.results.documents import AuditReport
from faal_core.specs import ClassifierSpec
from jobs import dataset_registry, model_registry
from jobs.artifacts import note_lost
from jobs.database import Sessions
from jobs.errors import FileLost
from jobs.outcomes import StoredClassifier
from jobs.settings import Settings
from jobs.storage import Storage, Stored, open_storage
from jobs.submission import UPLOADED_DATASET
from jobs.tables import Dataset, Job, Model
from worker.checkpoint import Checkpoint
from worker.outages import ask_database
from worker.progress import JobProgress

Row = TypeVar("Row")
WEIGHTS_TYPE = "application/vnd.safetensors"
_STORE_PATIENCE_SECONDS = 240.0  # for the store to come back, before the attempt is given up


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a job succeeded with; `jobs.outcomes` says which of them a kind of job brings."""

    report: str | None = None
    result_model: StoredClassifier | None = None
    trained: Stored | None = None
    finding: Mapping[str, Any] | None = None
    summary: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Assignment:
    """A claimed job with all it needs.

    `folder` is the job's own, outlasts the attempt and goes after the job's end; `checkpoint` brings it to other machines.
    `stored` are the digests of its results in storage, to which nothing refers until the job has succeeded.
    """

    job: Job
    settings: Settings
    sessions: Sessions
    progress: JobProgress
    folder: Path
    checkpoint: Checkpoint
    stored: list[str] = field(default_factory=list)

    @property
    def storage(self) -> Storage:
        """Where uploads and results lie."""
        return open_storage(self.settings, patience_seconds=_STORE_PATIENCE_SECONDS)

    @property
    def device(self) -> torch.device:
        """Where the network runs."""
        wanted = self.settings.device
        return torch.device(("cuda" if torch.cuda.is_available() else "cpu") if wanted == "auto" else wanted)

    def read(self, query: Callable[[Any], Row]) -> Row:
        """Return what `query` reads in a session, asked again while the database is unavailable."""

        def ask() -> Row:
            with self.sessions() as session:
                return query(session)

        return ask_database(ask)

    def model(self) -> Model:
        """Return the job's model."""
        return self.read(lambda session: model_registry.model(session, _given(self.job.model_id)))

    def uploaded_dataset(self) -> Dataset:
        """Return the job's data set, which is an uploaded one."""
        return self.read(lambda session: dataset_registry.dataset(session, _given(self.job.dataset)))

    def classifier(self, model: Model) -> Classifier:
        """The network of a model that is ready."""
        return weights.read_classifier(self.file(model.sha256), ClassifierSpec.model_validate(model.spec))

    @property
    def dataset_reference(self) -> str:
        """The job's data set as `datasets.load` takes it: its name in the catalog, or the path of the stored file."""
        reference = _given(self.job.dataset)
        if not reference.startswith(UPLOADED_DATASET):
            return reference
        return str(self.file(self.uploaded_dataset().sha256))

    def images(self, part: Part) -> LabelledImages:
        """A part of the job's data set, named as its owner named it."""
        images = datasets.load(self.dataset_reference, part, root=self.settings.dataset_root)
        uploaded = _given(self.job.dataset).startswith(UPLOADED_DATASET)
        return replace(images, name=self.uploaded_dataset().name) if uploaded else images

    def file(self, sha256: str | None) -> Path:
        """The stored file of that digest, where it can be read. Raises: FileLost, StoreUnavailable."""
        try:
            return self.storage.local(_given(sha256), self.folder)
        except FileLost as lost:
            ask_database(partial(note_lost, self.sessions, lost))
            raise

    def keep(self, file: Path, media_type: str) -> Stored:
        """Store a result. Raises: StorageFull, StoreUnavailable."""
        stored = self.storage.put_file(file, media_type=media_type)
        self.stored.append(stored.sha256)
        return stored


def with_ids(report: AuditReport, *, job_id: str, model_id: str | None) -> AuditReport:
    """Return the report with the service's ids in its provenance."""
    if report.provenance is None:
        return report
    identified = report.provenance.model_copy(update={"job_id": job_id, "model_id": model_id})
    return report.model_copy(update={"provenance": identified})


def _given(reference: str | None) -> str:
    assert reference is not None, "lifecycle lets no job of this kind in without it"  # noqa: S101
    return reference
