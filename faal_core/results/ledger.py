"""Store an audit's results batch by batch, one line each: a killed audit resumes from them."""

import fcntl
import hashlib
import json
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, ValidationError

from faal_core.errors import LedgerMismatch
from faal_core.results.documents import ClassifierSummary
from faal_core.specs import AuditSpec

CLEAN = -1  # value of `attack` in a batch without an attack
CERTIFIED = -2  # value of `attack` in the batch of proven bounds, of which an audit has one at most
_REPEATABLE = 1e-3  # fraction of the largest output, by which those of one network may differ between devices
PATIENCE_SECONDS = 30.0  # longest wait for another process to release the file: an attempt that is ending needs less


class BatchResult(BaseModel):
    """Holds the results of one batch of images after one run of an attack, or clean: the smallest work that is done whole.

    Args:
        attack, run: number of the attack and of its run, from 0; attack −1 is the clean prediction, −2 proven bounds.
        rows: places of the images in the data; each of the other lists has one entry per image.
        predicted: predicted class after the run.
        margin: probability of the label minus that of the likeliest other class, in [−1, 1].
        logit_margin: the label's logit minus the largest other logit.
        distance: norm of the perturbation.
        sha256: SHA-256 of the adversarial image's float32 pixels, channels first; empty where the image is still
            classified correctly.
        forward, backward: images passed through the network.
        seconds: wall-clock time.
    """

    model_config = ConfigDict(frozen=True, allow_inf_nan=False)

    attack: int
    run: int
    rows: tuple[int, ...]
    predicted: tuple[int, ...]
    margin: tuple[float, ...]
    # Ledgers of earlier versions call it lead.
    logit_margin: tuple[float, ...] = Field(validation_alias=AliasChoices("logit_margin", "lead"))
    distance: tuple[float, ...]
    sha256: tuple[str, ...]
    forward: int
    backward: int
    seconds: float


def compute_identity(product: str, classifier: ClassifierSummary, dataset_sha256: str, spec: AuditSpec) -> str:
    """Return a digest of classifier, data and spec; a ledger's batches are valid for one identity alone.

    Args:
        product: name and version of the program that ran the audit.
        dataset_sha256: of the audited images and their labels, as in the report.
    """
    network = classifier.spec.model_dump_json(exclude={"class_names"})
    exclude = {"confidence"} if spec.sequential else {"confidence", "sequential"}
    parts = [product, classifier.sha256, network, dataset_sha256, spec.model_dump_json(exclude=exclude)]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


class Ledger:
    """Stores the results of finished batches, in a file if a path is given.

    A batch is on disk before the next one begins. A line that a crash left half-written is dropped.

    Args:
        path: file to continue; created where it does not exist.
        identity: digest of the audit; a file with another digest is refused.
        outputs: numbers that the audit's network computes; a file whose numbers differ clearly is refused too.
        keep: whether to write new batches into the file; otherwise the file is only read, and another process may use it.
        batch_size: most images in a batch of a new audit.

    Attributes:
        batch_size: most images in a batch of the audit that began the file; None where an earlier version began it.
        resumed: whether an earlier run began the file, even if it finished no batch.

    Raises: LedgerMismatch, also where another process writes to the file; OSError.
    """

    def __init__(
        self,
        path: Path | None,
        identity: str,
        *,
        outputs: Sequence[float] = (),
        keep: bool = True,
        batch_size: int | None = None,
    ) -> None:
        self.batch_size = batch_size
        self._batches: dict[tuple[int, int, tuple[int, ...]], BatchResult] = {}
        self._file = _open_locked(path) if path and keep else None
        try:
            content = path.read_bytes() if path else b""
            self.resumed = bool(content)
            self._read(content, _Header(identity, outputs, batch_size), path)
        except LedgerMismatch:
            self.close()
            raise

    def _read(self, content: bytes, header: "_Header", path: Path | None) -> None:
        first, valid = content[: content.find(b"\n") + 1], 0
        if header.fits(first):
            valid, self.batch_size = len(first), json.loads(first).get("batch_size")
            for line in content[valid:].splitlines(keepends=True):
                if not self._store_line(line):
                    break
                valid += len(line)
        elif not header.line.startswith(content):
            raise LedgerMismatch(
                f"{path} is not the ledger of this audit. It belongs to other weights, another network, other images or attacks, "
                "to another version of FAAL, or it is no ledger. Name another file."
            )
        if self._file:
            self._file.truncate(valid)
            if not valid:
                self._write(header.line)

    def _store_line(self, line: bytes) -> bool:
        if not line.endswith(b"\n"):
            return False
        try:
            result = BatchResult.model_validate_json(line)
        except ValidationError:
            return False
        self._batches[result.attack, result.run, result.rows] = result
        return True

    def find(self, attack: int, run: int, rows: Sequence[int]) -> BatchResult | None:
        """Return the result of these images after this run, or None where the ledger lacks it."""
        return self._batches.get((attack, run, tuple(rows)))

    def add(self, result: BatchResult) -> BatchResult:
        """Store the result, and return it. Raises: OSError."""
        self._write(result.model_dump_json().encode() + b"\n")
        self._batches[result.attack, result.run, result.rows] = result
        return result

    def __iter__(self) -> Iterator[BatchResult]:
        """Iterate over all results, in the order in which they were computed."""
        return iter(self._batches.values())

    def close(self) -> None:
        """Close the file."""
        if self._file:
            self._file.close()

    def __enter__(self) -> Self:
        """Return the ledger."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the file."""
        self.close()

    def _write(self, line: bytes) -> None:
        if self._file:
            self._file.write(line)
            self._file.flush()
            os.fsync(self._file.fileno())


class _Header:
    """The first line of a ledger: the digest of its audit, and outputs of a network that its weights alone do not describe."""

    def __init__(self, identity: str, outputs: Sequence[float], batch_size: int | None) -> None:
        self._identity, self._outputs = identity, outputs
        fields: dict[str, object] = {"identity": identity}
        fields |= {"outputs": outputs} if outputs else {}
        fields |= {"batch_size": batch_size} if batch_size else {}
        self.line = json.dumps(fields).encode() + b"\n"

    def fits(self, line: bytes) -> bool:
        """Return whether the line is the header of this audit, up to the last digits of the outputs.

        These digits depend on the device. The size of the batches may differ.
        """
        try:
            fields = json.loads(line)
            outputs = [float(one) for one in fields.get("outputs", ())]
            if fields["identity"] != self._identity or int(fields.get("batch_size", 1)) < 1:
                return False
        except (ValueError, TypeError, KeyError, AttributeError):
            return False
        if len(outputs) != len(self._outputs):
            return False
        if not outputs:
            return True
        most = _REPEATABLE * max(map(abs, self._outputs))
        return all(abs(one - other) <= most for one, other in zip(outputs, self._outputs, strict=True))


def _open_locked(path: Path) -> BinaryIO:
    """Open the file for appending, locked for this process until it is closed; wait while another attempt is ending."""
    file, start = path.open("ab"), time.monotonic()
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > start + PATIENCE_SECONDS:
                file.close()
                raise LedgerMismatch(
                    f"{path} is in use by another audit. Wait until it ends, or name another file."
                ) from None
            time.sleep(0.1)
        else:
            return file
