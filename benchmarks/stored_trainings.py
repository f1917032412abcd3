"""Fine-tuned weights in a folder, so that no training is repeated when a benchmark is stopped or judges by other test images.

The name of a training tells its method and its settings, not the version of this project: take a new folder after a change.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from faal_core.classifier import Classifier
from faal_core.training.selection import TrainingResult
from faal_core.weights import read_classifier, write_classifier

Notes = dict[str, Any]


class StoredTrainings:
    """The trainings of one experiment, each as weights and notes in a folder, which is made where it is missing."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def get(
        self, name: str, train: Callable[[Path], TrainingResult], describe: Callable[[TrainingResult], Notes]
    ) -> tuple[Classifier, Notes]:
        """Return the weights of the training of that name and the notes on it; train only where the folder has none.

        Args:
            train: trains, with the file that a stopped training resumes from.
            describe: returns the notes, which JSON can hold.
        """
        weights, notes, checkpoint = (self._folder / f"{name}.{suffix}" for suffix in ("safetensors", "json", "pt"))
        if not notes.exists():
            result = train(checkpoint)
            write_classifier(weights, result.classifier)
            notes.write_text(json.dumps(describe(result)))
            checkpoint.unlink(missing_ok=True)
        return read_classifier(weights), json.loads(notes.read_text())
