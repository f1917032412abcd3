"""The jobs that check uploads: a confined process reads the file, and only the process's answer is used."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from faal_core.catalog import onnx_format
from faal_core.errors import DatasetInvalid, WeightsUnreadable
from jobs.model_registry import WEIGHTS_KEY, WEIGHTS_TYPE
from jobs.results import StoredClassifier
from worker.assignment import Assignment, JobResult
from worker.confinement import Confinement
from worker.model_specs import read_spec
from worker.upload_reading import CONVERTED


def check_model(assignment: Assignment) -> JobResult:
    """Return the uploaded weights as safetensors under our key names; an ONNX file as it is.

    Raises: WeightsUnreadable, WeightsAmbiguous, WeightsMismatch, OutOfMemory, ReadingInterrupted.
    """
    model = assignment.read_model()
    upload = assignment.fetch_file(model.upload_sha256)
    with _confinement(assignment) as confinement:
        key = assignment.job.spec.get(WEIGHTS_KEY)
        networks = assignment.settings.networks
        read = confinement.call(
            "worker.upload_reading:convert_model",
            upload,
            model.spec,
            key,
            None if networks is None else str(networks),
            refusal=WeightsUnreadable,
        )
        spec = read_spec(read["spec"])
        media_type = onnx_format.MEDIA_TYPE if spec.architecture == onnx_format.ONNX else WEIGHTS_TYPE
        stored = assignment.store_file(confinement.folder / CONVERTED, media_type)
    return JobResult(result_model=StoredClassifier(stored, spec, weights_sha256=read["sha256"]))


def check_dataset(assignment: Assignment) -> JobResult:
    """Return the summary of the uploaded data set. Raises: DatasetInvalid, OutOfMemory, ReadingInterrupted."""
    upload = assignment.fetch_file(assignment.read_dataset().sha256)
    with _confinement(assignment) as confinement:
        summary = confinement.call("worker.upload_reading:summarise_dataset", upload, refusal=DatasetInvalid)
    return JobResult(summary=summary)


@contextmanager
def _confinement(assignment: Assignment) -> Iterator[Confinement]:
    """Yield a confinement with the settings' limits, around a private folder that is removed afterwards."""
    settings = assignment.settings
    with tempfile.TemporaryDirectory(dir=assignment.folder) as folder:
        yield Confinement(
            folder=Path(folder),
            seconds=settings.validation_seconds,
            memory=settings.validation_memory,
            file_bytes=2 * settings.upload_limit,  # converted weights are about as large as the uploaded ones
            progress=assignment.progress,
            forks=assignment.forks,
        )
