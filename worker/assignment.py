"""The input of a job's code, and its result."""

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
from faal_core.results.finetune_documents import FinetuneReport
from faal_core.results.outcomes import PARQUET_TYPE, Outcomes
from faal_core.results.reading import list_audits
from jobs import dataset_registry, model_registry
from jobs.artifacts import record_lost
from jobs.database import Sessions
from jobs.errors import FileLost
from jobs.results import StoredClassifier
from jobs.settings import Settings
from jobs.storage import Storage, StoredFile, open_storage
from jobs.submission import UPLOADED_DATASET
from jobs.tables import Dataset, Job, Model
from worker.checkpoint import Checkpoint
from worker.model_specs import read_spec
from worker.outages import ask_database
from worker.progress import JobProgress
from worker.warm_process import ForkClient

Row = TypeVar("Row")
_STORE_PATIENCE_SECONDS = 240.0  # for the store to come back, before the attempt is given up


@dataclass(frozen=True, slots=True)
class JobResult:
    """The results of a job that succeeded; `jobs.results` says which of them each kind of job has.

    Args:
        outcomes: files with the outcomes of the images of each audit in the report, by name.
    """

    report: str | None = None
    outcomes: Mapping[str, StoredFile] = field(default_factory=dict)
    result_model: StoredClassifier | None = None
    trained: StoredFile | None = None
    finding: Mapping[str, Any] | None = None
    summary: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Assignment:
    """A claimed job with all it needs.

    Args:
        folder: the job's own. It outlasts the attempt and is removed after the job's end.
        checkpoint: copies the folder's files to other machines.
        forks: client of the warm process; absent where the job runs without one.
        stored_digests: of its results in storage, which no row refers to until the job has succeeded.
    """

    job: Job
    settings: Settings
    sessions: Sessions
    progress: JobProgress
    folder: Path
    checkpoint: Checkpoint
    forks: ForkClient | None = None
    stored_digests: list[str] = field(default_factory=list)

    @property
    def storage(self) -> Storage:
        """Return the storage of uploads and results."""
        return open_storage(self.settings, patience_seconds=_STORE_PATIENCE_SECONDS)

    @property
    def device(self) -> torch.device:
        """Return the device that the network runs on."""
        device = self.settings.device
        return torch.device(("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device)

    def read(self, query: Callable[[Any], Row]) -> Row:
        """Return what `query` reads in a session; repeat it while the database is unavailable."""

        def ask() -> Row:
            with self.sessions() as session:
                return query(session)

        return ask_database(ask)

    def read_model(self) -> Model:
        """Return the job's model."""
        return self.read(lambda session: model_registry.find_model(session, _require_reference(self.job.model_id)))

    def read_dataset(self) -> Dataset:
        """Return the job's data set, which must be an uploaded one."""
        return self.read(lambda session: dataset_registry.find_dataset(session, _require_reference(self.job.dataset)))

    def read_classifier(self, model: Model) -> Classifier:
        """Return the network of a model that is ready."""
        return weights.read_classifier(self.fetch_file(model.sha256), read_spec(model.spec))

    @property
    def dataset_reference(self) -> str:
        """Return the job's data set as `datasets.load` takes it: its name in the catalog, or the path of the stored file."""
        reference = _require_reference(self.job.dataset)
        if not reference.startswith(UPLOADED_DATASET):
            return reference
        return str(self.fetch_file(self.read_dataset().sha256))

    def load_images(self, part: Part) -> LabelledImages:
        """Return a part of the job's data set, under the name that its owner gave it."""
        images = datasets.load(self.dataset_reference, part, root=self.settings.dataset_root)
        is_uploaded = _require_reference(self.job.dataset).startswith(UPLOADED_DATASET)
        return replace(images, name=self.read_dataset().name) if is_uploaded else images

    def fetch_file(self, sha256: str | None) -> Path:
        """Return the path of a readable copy of the stored file of that digest. Raises: FileLost, StoreUnavailable."""
        try:
            return self.storage.fetch(_require_reference(sha256), self.folder)
        except FileLost as lost:
            ask_database(partial(record_lost, self.sessions, lost))
            raise

    def store_file(self, file: Path, media_type: str) -> StoredFile:
        """Store a result. Raises: StorageFull, StoreUnavailable."""
        stored = self.storage.put_file(file, media_type=media_type)
        self.stored_digests.append(stored.sha256)
        return stored

    def store_outcomes(self, report: AuditReport | FinetuneReport, *outcomes: Outcomes) -> dict[str, StoredFile]:
        """Store the outcomes of the images of each audit in the report, in the order of `list_audits`; return them by name.

        Raises: StorageFull, StoreUnavailable.
        """
        stored = {}
        for (name, audited), one in zip(list_audits(report).items(), outcomes, strict=True):
            one.write(self.folder / name, audited)
            stored[name] = self.store_file(self.folder / name, PARQUET_TYPE)
        return stored


def identify(report: AuditReport, job: Job, *, model_id: str | None) -> AuditReport:
    """Return the report with the service's ids in its provenance. The report of a later attempt is of a resumed audit."""
    changes: dict[str, object] = {"resumed": True if job.attempt > 1 else report.resumed}
    if report.provenance is not None:
        changes["provenance"] = report.provenance.model_copy(update={"job_id": job.id, "model_id": model_id})
    return report.model_copy(update=changes)


def _require_reference(reference: str | None) -> str:
    assert reference is not None, "every job of this kind has one"  # noqa: S101
    return reference
