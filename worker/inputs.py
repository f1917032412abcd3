"""The model and the data of a job, for the processes that compute it."""

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import torch

from faal_core import datasets, weights
from faal_core.auditing.sources import Source
from faal_core.classifier import Classifier
from faal_core.datasets.labelled_images import LabelledImages, Part
from faal_core.errors import InvalidSpec
from faal_core.specs import AttackSpec, SourceNetwork
from faal_core.specs.attacks import list_sources
from jobs import dataset_registry, model_registry
from jobs.artifacts import record_lost
from jobs.database import Sessions
from jobs.errors import FileLost
from jobs.settings import Settings
from jobs.storage import Storage, open_storage
from jobs.submission import UPLOADED_DATASET
from jobs.tables import Dataset, Job, Model
from worker.model_specs import read_spec
from worker.outages import ask_database

Row = TypeVar("Row")
_STORE_PATIENCE_SECONDS = 240.0  # for the store to come back, before the attempt is given up


@dataclass(frozen=True, slots=True)
class JobInputs:
    """A job, and where its model and its data come from.

    Args:
        folder: for copies of files in storage.
    """

    job: Job
    settings: Settings
    sessions: Sessions
    folder: Path

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

    def read_sources(self, attacks: Collection[AttackSpec]) -> list[Source]:
        """Return the models whose gradients the attacks follow. Raises: InvalidSpec where one was deleted."""
        return [self._read_source(network) for network in list_sources(attacks).values()]

    def _read_source(self, network: SourceNetwork) -> Source:
        job, model = self.job, self.read_model()
        if model.weights_sha256 != network.sha256:
            by_weights = self.read(
                lambda session: model_registry.find_by_weights(
                    session, job.owner, network.sha256, cutoff=job.created_at
                )
            )
            model = by_weights or model
        source = Source(network.name, self.read_classifier(model))
        if source.network.sha256 != network.sha256:
            raise InvalidSpec(f"The model {network}, whose gradients an attack follows, was deleted. Upload it again.")
        return source

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


def _require_reference(reference: str | None) -> str:
    assert reference is not None, "every job of this kind has one"  # noqa: S101
    return reference
