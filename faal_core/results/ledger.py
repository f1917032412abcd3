"""The verdicts of an audit as they come, one line a batch: what a killed audit goes on from, and what a report is made of."""

import fcntl
import json
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

from pydantic import BaseModel, ConfigDict, ValidationError

from faal_core.errors import LedgerMismatch

CLEAN = -1  # in `attack`: the images as they are
PATIENCE_SECONDS = 30.0  # for another process to let go of the file


class Unit(BaseModel):
    """One batch of images after one run of an attack, or as they are: the smallest work that is done whole.

    Args:
        attack, run: which run of which attack, from 0; attack −1 is none.
        rows: the images' places in the data; each of the other lists has one entry an image.
        predicted: class after the run.
        margin: probability of the label minus that of the likeliest other class, in [−1, 1].
        lead: the label's logit minus the largest other.
        distance: norm of the perturbation.
        sha256: of the adversarial image's float32 pixels, channels first; empty where it is still classified correctly.
        forward, backward: images passed through the network.
        seconds: of wall-clock time.
    """

    model_config = ConfigDict(frozen=True, allow_inf_nan=False)

    attack: int
    run: int
    rows: tuple[int, ...]
    predicted: tuple[int, ...]
    margin: tuple[float, ...]
    lead: tuple[float, ...]
    distance: tuple[float, ...]
    sha256: tuple[str, ...]
    forward: int
    backward: int
    seconds: float


class Ledger:
    """The units done so far, in a file if a path is given.

    A unit is on disk before the next begins; a line that a crash left half-written is dropped.

    Args:
        path: an existing file is gone on with; a new one is made otherwise.
        identity: what the audit is of; a file of another is refused.
        keep: whether new units go into the file; otherwise it is only read, and may be in use.
    Raises: LedgerMismatch, also where another process writes to the file; OSError.
    """

    def __init__(self, path: Path | None, identity: str, *, keep: bool = True) -> None:
        self._units: dict[tuple[int, int, tuple[int, ...]], Unit] = {}
        self._file = _locked(path) if path and keep else None
        try:
            self._read(path.read_bytes() if path else b"", identity, path)
        except LedgerMismatch:
            self.close()
            raise

    def _read(self, content: bytes, identity: str, path: Path | None) -> None:
        header, whole = json.dumps({"identity": identity}).encode() + b"\n", 0
        if content.startswith(header):
            whole = len(header)
            for line in content[whole:].splitlines(keepends=True):
                if not self._remembered(line):
                    break
                whole += len(line)
        elif not header.startswith(content):
            raise LedgerMismatch(
                f"{path} is not the ledger of this audit: of other weights, images or attacks, of another version, or no "
                "ledger. Name another file."
            )
        if self._file:
            self._file.truncate(whole)
            if not whole:
                self._write(header)

    def _remembered(self, line: bytes) -> bool:
        if not line.endswith(b"\n"):
            return False
        try:
            unit = Unit.model_validate_json(line)
        except ValidationError:
            return False
        self._units[unit.attack, unit.run, unit.rows] = unit
        return True

    def find(self, attack: int, run: int, rows: Sequence[int]) -> Unit | None:
        """The unit of those images after that run, if it was done."""
        return self._units.get((attack, run, tuple(rows)))

    def add(self, unit: Unit) -> Unit:
        """The unit itself, kept for good. Raises: OSError."""
        self._write(unit.model_dump_json().encode() + b"\n")
        self._units[unit.attack, unit.run, unit.rows] = unit
        return unit

    def __iter__(self) -> Iterator[Unit]:
        """All units, in the order in which they were done."""
        return iter(self._units.values())

    def close(self) -> None:
        """The file is closed, and stays."""
        if self._file:
            self._file.close()

    def __enter__(self) -> "Ledger":
        """The ledger itself."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """As `close`."""
        self.close()

    def _write(self, line: bytes) -> None:
        if self._file:
            self._file.write(line)
            self._file.flush()
            os.fsync(self._file.fileno())


def _locked(path: Path) -> BinaryIO:
    """The file, open to append to, for this process alone until it is closed; an attempt that is ending is waited for."""
    file, begun = path.open("ab"), time.monotonic()
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > begun + PATIENCE_SECONDS:
                file.close()
                raise LedgerMismatch(f"{path} is in use by another audit. Wait for it, or name another file.") from None
            time.sleep(0.1)
        else:
            return file
