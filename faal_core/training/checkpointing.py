"""Everything a run of training needs to go on after a crash, exactly: one file, replaced whole after each epoch."""

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from faal_core.reports.documents import EpochRow


@dataclass(slots=True)
class TrainingState:
    """How far training is: rows of the finished epochs, the weights now and those of the best epoch, the optimiser's state.

    No state of a random generator is kept: each epoch seeds its own.
    """

    weights: dict[str, Tensor]
    best_weights: dict[str, Tensor]
    optimizer: dict[str, Any]
    epochs: list[EpochRow] = field(default_factory=list)


def save(path: Path, state: TrainingState, identity: str) -> None:
    """Writes the state so that a crash leaves either the old file or the new one. Raises: OSError."""
    content = {
        "identity": identity,
        "weights": state.weights,
        "best_weights": state.best_weights,
        "optimizer": state.optimizer,
        "epochs": [row.model_dump_json() for row in state.epochs],
    }
    partial = path.with_suffix(".partial")
    try:
        with partial.open("wb") as file:
            torch.save(content, file)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except RuntimeError as error:  # what torch makes of a full disk
        raise OSError(f"{path} cannot be written; is the disk full?") from error
    finally:
        partial.unlink(missing_ok=True)


def load(path: Path, identity: str, device: torch.device) -> TrainingState | None:
    """The state saved under the same identity (spec, data and starting weights); None where there is none to be read."""
    if not path.exists():
        return None
    try:
        content = torch.load(path, map_location=device, weights_only=True)
        if content["identity"] != identity:
            return None
        return TrainingState(
            weights=content["weights"],
            best_weights=content["best_weights"],
            optimizer=content["optimizer"],
            epochs=[EpochRow.model_validate_json(row) for row in content["epochs"]],
        )
    except Exception:  # noqa: BLE001 - a damaged file can raise anything, and training anew loses less than giving up
        return None
