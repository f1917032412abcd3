"""The jobs that check uploads: strangers' files are read in a confined process, and only what it answers is used."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from faal_core.errors import DatasetInvalid, WeightsUnreadable
from faal_core.specs import ClassifierSpec
from jobs.model_registry import WEIGHTS_KEY
from jobs.outcomes import StoredClassifier
from worker.assignment import WEIGHTS_TYPE, Assignment, Outcome
from worker.confinement import Confinement
from worker.upload_reading import CONVERTED


def check_model(assignment: Assignment) -> Outcome:
    """The uploaded weights as safetensors in our key names.

    Raises: WeightsUnreadable, WeightsAmbiguous, WeightsMismatch, OutOfMemory, ReadingInterrupted.
    """
    model = assignment.model()
    upload = assignment.file(model.upload_sha256)
    with _confinement(assignment) as confinement:
        key = assignment.job.spec.get(WEIGHTS_KEY)
        read = confinement.call(
            "worker.upload_reading:convert_model", upload, model.spec, key, refusal=WeightsUnreadable
        )
        stored = assignment.keep(confinement.folder / CONVERTED, WEIGHTS_TYPE)
    spec = ClassifierSpec.model_validate(read["spec"])
    return Outcome(result_model=StoredClassifier(stored, spec, weights_sha256=read["sha256"]))


def check_dataset(assignment: Assignment) -> Outcome:
    """What the uploaded data set holds. Raises: DatasetInvalid, OutOfMemory, ReadingInterrupted."""
    upload = assignment.file(assignment.uploaded_dataset().sha256)
    with _confinement(assignment) as confinement:
        summary = confinement.call("worker.upload_reading:summarise_dataset", upload, refusal=DatasetInvalid)
    return Outcome(summary=summary)


@contextmanager
def _confinement(assignment: Assignment) -> Iterator[Confinement]:
    """Limits from the settings, around a folder that nobody else can read and that is removed afterwards."""
    settings = assignment.settings
    with tempfile.TemporaryDirectory(dir=assignment.folder) as folder:
        yield Confinement(
            folder=Path(folder),
            seconds=settings.validation_seconds,
            memory=settings.validation_memory,
            file_bytes=2 * settings.upload_limit,  # converted weights are about as large as the uploaded ones
            progress=assignment.progress,
        )
