"""Fairness fine-tuning: audit, train, audit again on the same images, compare."""

import copy
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from faal_core import weights
from faal_core.audit.reliability import pixel_digests
from faal_core.audit.run import PRODUCT, Audited, audit, identity, summarise
from faal_core.classifier import Classifier
from faal_core.datasets.class_order import listed
from faal_core.datasets.labelled_images import LabelledImages
from faal_core.datasets.matching import match_classes
from faal_core.errors import InvalidSpec, OutOfTime
from faal_core.progress import NoProgress, Part, Progress
from faal_core.results import cost
from faal_core.results.comparison import compare
from faal_core.results.documents import AuditReport, ReliabilityWarning
from faal_core.results.finetune_documents import FinetuneReport
from faal_core.specs import FinetuneSpec
from faal_core.training.ranks import ALONE, Ranks
from faal_core.training.recipe import train
from faal_core.training.rehearsal import rehearse
from faal_core.training.selection import Trained

_SLACK = 1.1  # of what is taken for what comes after the last step
_NO_TIME = (
    "The audits before and after the training and what judges it take {seconds:.0f} seconds or more, which leaves no time to "
    "train. Give it more time, or fewer images or weaker attacks to its audits."
)


_ROBUST_RATE = 0.05  # with less, a classifier was hardly trained to withstand attacks


@dataclass(frozen=True, slots=True)
class Finetuned:
    """The report and the classifier that was kept; `trained` is the best epoch's, which the report's candidates lead to."""

    report: FinetuneReport
    classifier: Classifier
    trained: Classifier


def finetune(
    classifier: Classifier,
    training_data: LabelledImages,
    test_data: LabelledImages,
    spec: FinetuneSpec,
    *,
    name: str,
    device: torch.device,
    checkpoint: Path | None = None,
    progress: Progress | None = None,
    ranks: Ranks = ALONE,
) -> Finetuned:
    """Fine-tune a copy of `classifier` (called `name` in the report) and compare it with what it was.

    The test images serve the two audits and nothing else: weights are chosen on images held out from the training data. Where no
    weights within the spec's bounds make the worst class better there, the given ones are kept, and there is no second audit.
    Where `progress` gives it a time, training ends early enough for the second audit, which is finished in any case.
    With `checkpoint`, a folder, a killed run resumes from its last checkpoint, or the last batch of an audit, with the same
    result (on a CPU).

    Args:
        ranks: where several processes train together this one is the first of them; the others call `train` alone, with the same
            arguments and `training_checkpoint(checkpoint)`, and wait there while it audits.
    Raises: InvalidSpec, ClassifierUnsuitable, TrainingDiverged, OutOfMemory; OutOfTime where no time is left to train;
        Cancelled through `progress`.
    """
    begun = time.monotonic()
    progress = progress or NoProgress()
    training_data, test_data = (match_classes(classifier, data) for data in (training_data, test_data))
    _check_fit(training_data, test_data)
    if checkpoint:
        checkpoint.mkdir(parents=True, exist_ok=True)
    saved = training_checkpoint(checkpoint)
    begins = not (saved and saved.exists())
    judging = partial(audit, device=device, trained_on=frozenset(pixel_digests(training_data)))

    def judge(judged: Classifier, called: str, when: str) -> Audited:
        subject = identity(summarise(judged, called), test_data, spec.audit_spec)
        ledger = checkpoint / f"{subject[:16]}.ledger" if checkpoint else None
        part = Part(progress, when, limited=begins and when == "before")
        return judging(judged, test_data, spec.audit_spec, name=called, ledger=ledger, progress=part)

    if begins:
        progress.stage("rehearsal of a step", len(training_data))
        rehearse(classifier, training_data, spec, device)
    before = judge(classifier, name, "before")
    warnings = _unsuitable(before.report)
    for warning in (*before.report.warnings, *warnings):
        (progress.record if begins else progress.recall)(warning)
    first, last = _before_and_after_steps(before.report, spec, len(training_data), classifier.num_classes)
    if begins and (not before.report.complete or progress.time_left() <= first + last):
        raise OutOfTime(_NO_TIME.format(seconds=before.report.seconds + first + last))
    trained = train(
        classifier, training_data, spec, device=device, checkpoint=saved, progress=progress, reserve=last, ranks=ranks
    )
    made, best = (_with_names(one, training_data) for one in (trained.classifier, _trained_end(trained)))
    after = before if trained.kept_original else judge(made, f"{name} + {spec.method.type}", "after")
    clean, robust = (
        compare(before.evaluation.labels, was, became, test_data.class_names, spec.audit.confidence)
        for was, became in zip(_correct(before), _correct(after), strict=True)
    )
    report = FinetuneReport(
        product=PRODUCT,
        created_at=datetime.now(UTC),
        seconds=time.monotonic() - begun,
        spec=spec,
        training_dataset=training_data.summary(),
        warnings=warnings,
        **_course(trained),
        trained_sha256=weights.digest(best),
        before=before.report,
        after=after.report,
        clean=clean,
        robust=robust,
    )
    return Finetuned(report, classifier if trained.kept_original else made, best)


def _unsuitable(report: AuditReport) -> tuple[ReliabilityWarning, ...]:
    """Warn of a classifier that two epochs cannot make robust: one whose robust accuracy is near zero, or that guesses."""
    rate = report.robust.mean
    guesses = rate.rate <= 1 / report.classifier.spec.num_classes
    if rate.rate >= _ROBUST_RATE and not guesses:
        return ()
    return (
        ReliabilityWarning(
            code="base-not-robust",
            message="The classifier was hardly trained to withstand these attacks, and a fine-tuning of a few epochs cannot make "
            "up for that.",
            evidence=f"{rate.count:,} of {rate.images:,} images stay right under attack, {rate.rate:.1%}"
            + (", no more than by guessing" if guesses else f"; less than {_ROBUST_RATE:.0%} counts as none"),
            advice="Start from an adversarially trained classifier, or train this one adversarially first: method uniform, some "
            "30 epochs or more (one learning rate each), and bounds on falls of 1. Or attack within a smaller radius.",
        ),
    )


def _course(trained: Trained) -> dict[str, Any]:
    """Return the report's fields about the training."""
    return {
        "held_out_images": trained.held_out_images,
        "epochs": trained.epochs,
        "selected_epoch": trained.selected_epoch,
        "candidates": trained.candidates,
        "selected_candidate": trained.selected,
        "selected_share": trained.selected_share,
        "selected_offsets": trained.selected_offsets,
        "class_offsets": trained.class_offsets,
        "whole_class_offsets": None if trained.offsets is None else tuple(trained.offsets.tolist()),
    }


def _trained_end(trained: Trained) -> Classifier:
    """Return the best epoch's weights as a classifier."""
    end = copy.deepcopy(trained.classifier)
    end.load_state_dict(trained.end)
    return end


def _with_names(classifier: Classifier, data: LabelledImages) -> Classifier:
    """Give the classifier the class names of the data, where the weights it began with had none; return it."""
    if classifier.spec.class_names is None:
        classifier.spec = classifier.spec.model_copy(update={"class_names": data.class_names})
    return classifier


def _check_fit(training_data: LabelledImages, test_data: LabelledImages) -> None:
    """Check that all classes can be trained, and that both parts are alike. Raises: InvalidSpec."""
    if missing := training_data.classes_without_images:
        raise InvalidSpec(
            f"{training_data.name} has no training images of {listed(missing)}, which the classifier tells apart: training would "
            "unlearn them. Add images of them, or train a classifier of the other classes."
        )
    for what, one, other in (
        ("other classes", training_data.class_names, test_data.class_names),
        ("images of another size", training_data.images.shape[1:], test_data.images.shape[1:]),
    ):
        if one != other:
            raise InvalidSpec(f"{training_data.name} has {what} for training than {test_data.name} for testing.")


def _before_and_after_steps(
    audited: AuditReport, spec: FinetuneSpec, images: int, num_classes: int
) -> tuple[float, float]:
    """Seconds before the first step of a training and after its last, second audit included, by the pace of the first."""
    pace = cost.seconds_a_pass(audited) or 0.0
    beginning, ending = (passes * pace for passes in cost.around_steps(spec, images, num_classes))
    return beginning, _SLACK * (sum(attack.seconds for attack in audited.attacks) + ending)


def training_checkpoint(checkpoint: Path | None) -> Path | None:
    """The file in that folder that the training goes on from."""
    return checkpoint / "training.pt" if checkpoint else None


def _correct(audited: Audited) -> tuple[np.ndarray, np.ndarray]:
    """Which images are right clean, and which are robust."""
    return audited.evaluation.correct, audited.evaluation.robust
