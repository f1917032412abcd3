"""The results of an experiment as JSON lines in a file, which other experiments and processes may share."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def name_experiment(subject: Sequence[str]) -> str:
    """Return a short digest of what tells an experiment from others, such as its settings and the digests of its data."""
    return hashlib.sha256("\n".join(subject).encode()).hexdigest()[:16]


class ResultRows:
    """The rows of one experiment: those that the file had at the start, and those appended since.

    Args:
        subject: as in `name_experiment`.
    """

    def __init__(self, path: Path, subject: Sequence[str]) -> None:
        self._path, self.experiment = path, name_experiment(subject)
        path.touch()
        self.rows = [row for row in map(json.loads, path.read_text().splitlines()) if row["of"] == self.experiment]

    def append(self, row: dict[str, Any]) -> None:
        """Append the row here and to the file, and print it."""
        row = {"of": self.experiment, **row}
        self.rows.append(row)
        line = json.dumps(row)
        with self._path.open("a") as file:
            file.write(line + "\n")
        print(line, flush=True)
