"""The part of a fine-tuning before its first step: the last layer is changed, and the weights to start from are validated.

For a method that trains nothing it is the whole.
"""

import copy
from typing import NamedTuple

import torch

from faal_core.classifier import Classifier
from faal_core.datasets.labelled_images import LabelledImages
from faal_core.errors import ClassifierUnsuitable
from faal_core.specs import FinetuneSpec, HwnwbMethod
from faal_core.specs.training import CHANGE_SCALES
from faal_core.training.head import HeadChange, change_head, equal_norm_scales, output_layer, takes_change
from faal_core.training.offsets import find_offsets
from faal_core.training.row_split import sample_rows
from faal_core.training.run import TrainingRun
from faal_core.training.selection import Starts, TrainingResult, best_candidate, describe_candidates
from faal_core.training.state import snapshot
from faal_core.training.validation import validate


class Beginning(NamedTuple):
    """The change of the last layer, which may be empty, and the starts, None where the spec sets no bounds."""

    head: HeadChange
    starts: Starts | None


def begin(original: Classifier, run: TrainingRun) -> Beginning:
    """Find the change of the last layer that the spec asks for, and validate each scale of it.

    Raises: ClassifierUnsuitable where the method changes the last layer alone and the network has no such layer; as
        `find_offsets`.
    """
    if run.spec.method.head_part:
        require_head(original, run.data, run.spec)
    head = _find_change(original, run)
    return Beginning(head, _validate_starts(original, head, run) if run.training.has_bounds else None)


def require_head(classifier: Classifier, data: LabelledImages, spec: FinetuneSpec) -> None:
    """Check that the logits follow a change of the last linear layer. Raises: ClassifierUnsuitable."""
    of_rows = spec.method.head_part == "rows"
    if not takes_change(classifier, data, torch.arange(len(data)), of_rows=of_rows):
        bias = "" if of_rows else "a bias and "
        raise ClassifierUnsuitable(
            f"Method {spec.method.type} changes the {spec.method.head_part} of the last linear layer, and this network's logits "
            f"do not follow such a change. They must come from a linear layer with {bias}{classifier.num_classes} outputs, in "
            "float32, whose weights no other layer computes. Choose a method that trains all layers, such as faal."
        )


def select_start(original: Classifier, beginning: Beginning, run: TrainingRun) -> TrainingResult:
    """Select among the starts, as the result of a method that trains nothing, and load its weights into `original`."""
    assert beginning.starts is not None  # noqa: S101 - such a spec is valid with bounds alone
    candidates = describe_candidates(beginning.starts, [], run.training)
    selected = best_candidate(candidates)
    change_head(original, beginning.head, selected.offset_scale).eval()
    return TrainingResult(
        classifier=original,
        epochs=(),
        selected_epoch=0,
        validation_images=len(run.rows.validation),
        candidates=candidates,
        selected=selected,
        head=beginning.head,
        best_epoch_weights=snapshot(original),
    )


def _find_change(original: Classifier, run: TrainingRun) -> HeadChange:
    """Return the change of the last layer, without a scale.

    Class offsets are sought on three times as many images as validate, none of which validates: a class that is weak in a sample
    by chance is weak in all its folds, and only other images show that.
    """
    layer = output_layer(original)
    if isinstance(run.spec.method, HwnwbMethod) and layer is not None:
        return HeadChange(row_scales=equal_norm_scales(layer.weight))
    if not run.spec.begins_with_offsets:
        return HeadChange()
    training = run.rows.training
    rows = sample_rows(training, run.cells.take(training), 3 * len(run.rows.validation), run.training.seed)
    return HeadChange(class_offsets=find_offsets(original, rows, run))


def _validate_starts(original: Classifier, head: HeadChange, run: TrainingRun) -> Starts:
    """Validate the given weights, and these with each scale of the change, where there is one."""
    accuracy = validate(copy.deepcopy(original), run)
    scales = CHANGE_SCALES if head else ()
    changed = {scale: validate(change_head(copy.deepcopy(original), head, scale), run) for scale in scales}
    return Starts(accuracy, changed)
