"""Everything that a training needs to resume after a crash: one file, replaced whole each time."""

import os
from pathlib import Path
from typing import Any

import torch

from faal_core.results.finetune_documents import EpochRow
from faal_core.training.beginning import Beginning
from faal_core.training.head import HeadChange
from faal_core.training.selection import Starts
from faal_core.training.state import Tally, TrainingState
from faal_core.training.validation import ValidationAccuracy

_FORMAT = 2  # of the content; files of another one are not resumed


def save(path: Path, state: TrainingState | Beginning, identity: str) -> None:
    """Write the state so that a crash leaves either the old file or the new one. Raises: OSError.

    Args:
        state: the beginning alone, where the method trains nothing.
    """
    content = _beginning(state) if isinstance(state, Beginning) else _content(state)
    partial = path.with_suffix(".partial")
    try:
        with partial.open("wb") as file:
            torch.save({"format": _FORMAT, "identity": identity, **content}, file)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except RuntimeError as error:  # what torch makes of a full disk
        raise OSError(f"{path} cannot be written; is the disk full?") from error
    finally:
        partial.unlink(missing_ok=True)


def read(path: Path, identity: str, device: torch.device) -> dict[str, Any] | None:
    """Return the content of a checkpoint; None where no file of this identity can be read.

    Args:
        identity: digest of spec, data and given weights.
    """
    if not path.exists():
        return None
    try:
        content = torch.load(path, map_location=device, weights_only=True)
        return content if (content["format"], content["identity"]) == (_FORMAT, identity) else None
    except Exception:  # noqa: BLE001 - a damaged file can raise anything, and training from the start loses less than failing
        return None


def restore(state: TrainingState, content: dict[str, Any]) -> None:
    """Restore the content of a run's checkpoint into a new state that was built for this run."""
    state.classifier.load_state_dict(content["classifier"])
    state.optimizer.load_state_dict(content["optimizer"])
    state.method.load_state_dict(content["method"])
    if state.average:
        state.average.load_state_dict(content["average"])
    loss, images, weight, batches = content["tally"]
    state.best, state.tally = content["best"], Tally(loss, images, weight.cpu(), batches.cpu())
    state.epochs = [EpochRow.model_validate_json(row) for row in content["epochs"]]
    state.accuracies = [_accuracy(*values) for values in content["accuracies"]]
    state.step = content["step"]


def beginning(content: dict[str, Any]) -> Beginning:
    """Return the beginning that a checkpoint holds."""
    head = HeadChange(*(None if values is None else values.cpu() for values in content["head"]))
    accuracies = {scale: _accuracy(*values) for scale, *values in content["starts"]}
    original = accuracies.pop(0.0, None)
    return Beginning(head, Starts(original, accuracies) if original else None)


def _beginning(one: Beginning) -> dict[str, Any]:
    """Return the beginning as a part of a checkpoint's content."""
    head, measured = one.head, one.starts.list_weights() if one.starts else []
    return {
        "head": (head.row_scales, head.class_offsets),
        "starts": [(start.offset_scale, *_values(start.accuracy)) for start in measured],
    }


def _content(state: TrainingState) -> dict[str, Any]:
    """Return the whole state in types that `torch.load` accepts from an untrusted file."""
    tally = state.tally
    return {
        **_beginning(Beginning(state.head, state.starts)),
        "classifier": state.classifier.state_dict(),
        "optimizer": state.optimizer.state_dict(),
        "method": state.method.state_dict(),
        "average": state.average.state_dict() if state.average else None,
        "best": state.best,
        "tally": (tally.loss, tally.images, tally.weight, tally.batches),
        "epochs": [row.model_dump_json() for row in state.epochs],
        "accuracies": [_values(accuracy) for accuracy in state.accuracies],
        "step": state.step,
    }


def _values(accuracy: ValidationAccuracy) -> tuple[Any, ...]:
    """Return an accuracy as a tuple, which `_accuracy` reads."""
    correct = None
    if accuracy.clean_correct is not None and accuracy.robust_correct is not None:
        correct = torch.stack([accuracy.clean_correct, accuracy.robust_correct])
    return accuracy.clean, accuracy.robust, accuracy.images, correct


def _accuracy(
    clean: tuple[float, ...], robust: tuple[float, ...], images: tuple[int, ...], correct: torch.Tensor | None
) -> ValidationAccuracy:
    if correct is None:
        return ValidationAccuracy(clean, robust, images)
    clean_correct, robust_correct = correct.cpu()
    return ValidationAccuracy(clean, robust, images, clean_correct, robust_correct)
