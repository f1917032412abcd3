"""The input of a job's code, and its result."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from faal_core.results.documents import AuditReport
from faal_core.results.finetune_documents import FinetuneReport
from faal_core.results.outcomes import PARQUET_TYPE, Outcomes
from faal_core.results.reading import list_audits
from jobs.results import StoredClassifier
from jobs.storage import StoredFile
from jobs.tables import Job
from worker.checkpoint import Checkpoint
from worker.inputs import JobInputs
from worker.progress import JobProgress
from worker.warm_process import ForkClient


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
class Assignment(JobInputs):
    """A claimed job with all it needs.

    Args:
        folder: the job's own. It outlasts the attempt and is removed after the job's end.
        checkpoint: copies the folder's files to other machines.
        forks: client of the warm process; absent where the job runs without one.
        stored_digests: of its results in storage, which no row refers to until the job has succeeded.
    """

    progress: JobProgress
    checkpoint: Checkpoint
    forks: ForkClient | None = None
    stored_digests: list[str] = field(default_factory=list)

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
