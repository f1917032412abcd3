"""Fairness fine-tuning: audit, train, audit again on the same images, compare."""

import copy
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import torch

from faal_core import weights
from faal_core.auditing.processes import Executors
from faal_core.auditing.suitability import check_trainable
from faal_core.classifier import Classifier
from faal_core.datasets.class_order import quote_names
from faal_core.datasets.labelled_images import LabelledImages
from faal_core.datasets.matching import match_classes
from faal_core.errors import InvalidSpec, OutOfTime
from faal_core.finetuning.audits import Audits
from faal_core.finetuning.result import FinetuneResult
from faal_core.progress import NoProgress, Progress, ProgressPart
from faal_core.results import cost
from faal_core.results.cells import compare_cells
from faal_core.results.comparison import compare
from faal_core.results.documents import PRODUCT, AuditReport, ReliabilityWarning
from faal_core.results.finetune_documents import FinetuneReport
from faal_core.specs import FinetuneSpec
from faal_core.training.cells import find_scheme, require_column
from faal_core.training.ranks import SINGLE_RANK, Ranks
from faal_core.training.recipe import train
from faal_core.training.rehearsal import rehearse
from faal_core.training.selection import TrainingResult

_SLACK = 1.1  # factor of the estimated seconds after the last step
_ROBUST_RATE = 0.05  # a classifier with less was hardly trained to withstand attacks
_NO_TIME = (
    "The audits before and after the training and what judges it take {seconds:.0f} seconds or more, which leaves no time to "
    "train. Give it more time, or fewer images or weaker attacks to its audits."
)
_NO_TIME_FOR_HEAD = (
    "The audits and the choice of the last layer take {seconds:.0f} seconds or more, and less time is left. Give it more time, "
    "or fewer images or weaker attacks to its audits."
)


def run_finetuning(
    classifier: Classifier,
    training_data: LabelledImages,
    test_data: LabelledImages,
    spec: FinetuneSpec,
    *,
    name: str,
    device: torch.device,
    checkpoint: Path | None = None,
    progress: Progress | None = None,
    ranks: Ranks = SINGLE_RANK,
    executors: Executors | None = None,
) -> FinetuneResult:
    """Fine-tune a copy of `classifier` (called `name` in the report), and compare it with the given weights.

    A method without training changes the last layer of the copy alone.

    Only the two audits use the test images: a part of the training data selects the weights (`best_candidate`). Where none within
    the spec's bounds make the worst class better there, the given ones are kept, and there is no second audit.

    Args:
        checkpoint: folder from which a killed run resumes at its last checkpoint, or at the last batch of an audit, with the
            same result (on a CPU).
        progress: where it has a deadline, training ends early enough for the second audit, which is always finished.
        ranks: the processes that train together; this one is the first of them. The others call `train` alone, with the same
            arguments and `training_checkpoint(checkpoint)`, and wait there while this one audits.
        executors: open what audits, and what validates for a single rank. Without a number of processes, it is the number of
            ranks, and for a single rank it is chosen by a short measurement.
    Raises: InvalidSpec, GroupsMissing, ClassifierUnsuitable, TrainingDiverged, OutOfMemory; OutOfTime where no time is left to
        train; Cancelled through `progress`.
    """
    check_trainable(classifier, spec)
    started_at = time.monotonic()
    progress = progress or NoProgress()
    training_data, test_data = (match_classes(classifier, data) for data in (training_data, test_data))
    _check_fit(training_data, test_data)
    cells = find_scheme(training_data, spec.method)
    if cells is not None:
        require_column(test_data, cells.column)
    classifier.place(device).eval().choose_layout(training_data.pixels(torch.arange(1), device))
    if checkpoint:
        checkpoint.mkdir(parents=True, exist_ok=True)
    training_file = training_checkpoint(checkpoint)
    is_new = not (training_file and training_file.exists())
    if is_new:
        progress.stage("rehearsal of a step" if spec.epochs else "rehearsal", len(training_data))
        rehearse(classifier, training_data, spec, device)
    executors = executors or Executors()
    if executors.processes is None and ranks.count > 1:
        executors = executors.with_processes(ranks.count)
    audits = Audits(training_data, test_data, spec, device, checkpoint, executors)
    before = audits.run(classifier, name, ProgressPart(progress, "before", limited=is_new))
    warnings = _robustness_warnings(before.report)
    for warning in (*before.report.warnings, *warnings):
        (progress.record if is_new else progress.replay)(warning)
    seconds = _seconds_around_steps(before.report, spec, len(training_data), classifier.num_classes)
    if is_new and (not before.report.complete or progress.time_left() <= seconds.before + seconds.after):
        message = _NO_TIME if spec.epochs else _NO_TIME_FOR_HEAD
        raise OutOfTime(message.format(seconds=before.report.seconds + seconds.before + seconds.after))
    training = train(
        classifier,
        training_data,
        spec,
        device=device,
        checkpoint=training_file,
        progress=progress,
        reserve=seconds.after,
        ranks=ranks,
        executors=executors,
    )
    selected, trained = (
        _with_names(one, training_data) for one in (training.classifier, _best_epoch_classifier(training))
    )
    after = before
    if not training.kept_original:
        before, after = audits.run_after(classifier, name, before, selected, progress)
    labels, names, confidence = before.evaluation.labels, test_data.class_names, spec.audit.confidence
    report = FinetuneReport(
        product=PRODUCT,
        created_at=datetime.now(UTC),
        seconds=time.monotonic() - started_at,
        spec=spec,
        training_dataset=training_data.summarise(),
        warnings=warnings if _robustness_warnings(after.report) else (),
        **_training_fields(training),
        trained_sha256=weights.digest(trained),
        before=before.report,
        after=after.report,
        clean=compare(labels, before.evaluation.correct, after.evaluation.correct, names, confidence),
        robust=compare(labels, before.evaluation.robust, after.evaluation.robust, names, confidence),
        cells=cells and compare_cells(cells, before.outcomes, after.outcomes, names, confidence),
    )
    outcomes = (before.outcomes, after.outcomes)
    return FinetuneResult(report, outcomes, classifier if training.kept_original else selected, trained)


def _robustness_warnings(report: AuditReport) -> tuple[ReliabilityWarning, ...]:
    """Return a warning of a classifier that two epochs seldom make robust: its robust accuracy is near zero, or it guesses."""
    rate = report.robust.mean
    guesses = rate.rate <= 1 / report.classifier.spec.num_classes
    if rate.rate >= _ROBUST_RATE and not guesses:
        return ()
    return (
        ReliabilityWarning(
            code="base-not-robust",
            message="The classifier was hardly trained to withstand these attacks, and a fine-tuning of a few epochs seldom "
            "changes that.",
            evidence=f"{rate.count:,} of {rate.images:,} images stay right under attack, {rate.rate:.1%}"
            + (", no more than by guessing" if guesses else f"; less than {_ROBUST_RATE:.0%} counts as none"),
            advice="Start from an adversarially trained classifier, or train this one adversarially first: method uniform, some "
            "30 epochs or more (one learning rate each), and bounds on falls of 1. Or attack within a smaller radius.",
        ),
    )


def _training_fields(training: TrainingResult) -> dict[str, Any]:
    """Return the report's fields about the training."""
    candidates = training.candidates.in_order if training.candidates else ()
    return {
        "validation_images": training.validation_images,
        "epochs": training.epochs,
        "selected_epoch": training.selected_epoch,
        "candidates": candidates,
        "selected_candidate": candidates.index(training.selected) if training.selected else None,
        "selected_interpolation": training.interpolation,
        "selected_offset_scale": training.offset_scale,
        "class_offsets": training.scaled_offsets,
        "unscaled_class_offsets": _list_numbers(training.head.class_offsets),
        "unscaled_row_scales": _list_numbers(training.head.row_scales),
    }


def _list_numbers(values: torch.Tensor | None) -> tuple[float, ...] | None:
    return None if values is None else tuple(values.tolist())


def _best_epoch_classifier(training: TrainingResult) -> Classifier:
    """Return the best epoch's weights as a classifier."""
    classifier = copy.deepcopy(training.classifier)
    classifier.load_state_dict(training.best_epoch_weights)
    return classifier


def _with_names(classifier: Classifier, data: LabelledImages) -> Classifier:
    """Give the classifier the class names of the data, where the given weights had none; return it."""
    if classifier.spec.class_names is None:
        classifier.spec = classifier.spec.model_copy(update={"class_names": data.class_names})
    return classifier


def _check_fit(training_data: LabelledImages, test_data: LabelledImages) -> None:
    """Check that all classes can be trained, and that both parts have the same classes and sizes. Raises: InvalidSpec."""
    if missing := training_data.classes_without_images:
        raise InvalidSpec(
            f"{training_data.name} has no training images of {quote_names(missing)}, which the classifier can predict: "
            "training would unlearn them. Add images of them, or train a classifier of the other classes."
        )
    for difference, one, other in (
        ("other classes", training_data.class_names, test_data.class_names),
        ("images of another size", training_data.images.shape[1:], test_data.images.shape[1:]),
    ):
        if one != other:
            raise InvalidSpec(f"{training_data.name} has {difference} for training than {test_data.name} for testing.")


class _Seconds(NamedTuple):
    """Estimated seconds of a training before its first step and after its last, the second audit included."""

    before: float
    after: float


def _seconds_around_steps(audited: AuditReport, spec: FinetuneSpec, images: int, num_classes: int) -> _Seconds:
    """Estimate the seconds that no step takes, from the pace of the first audit."""
    pace = cost.seconds_per_pass(audited) or 0.0
    passes = cost.count_surrounding_passes(spec, images, num_classes)
    before = pace * (passes.search + passes.starts)
    return _Seconds(before, _SLACK * (cost.count_seconds(audited) + pace * passes.ending))


def training_checkpoint(checkpoint: Path | None) -> Path | None:
    """Return the file in that folder which the training resumes from."""
    return checkpoint / "training.pt" if checkpoint else None
