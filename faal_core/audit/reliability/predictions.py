"""Signs in the clean predictions of all images: chance level, one answer, classes in another order, classes of few images."""

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from faal_core.results.documents import ClassRow, ReliabilityWarning
from faal_core.results.image_outcomes import Evaluation, Rows
from faal_core.results.intervals import clopper_pearson, mcnemar

# One-sided 95 % bound. On few images it lies far below the rate, so that a rate well above chance is left alone.
_CHANCE_CONFIDENCE = 0.90
_NEAR_CHANCE = 1.5  # times chance

# Of the images. A network with one wrong answer in a hundred carries no more information than one with none.
_ONE_ANSWER = 0.99
_COMMON_CLASS = 0.9  # of the images: where one class is this common, a right network gives nearly one answer too

# Of the images of the classes that another order moves: half are right in that order, and at most half as many without it. A
# network that merely mistakes classes has more right images than wrong ones of any one kind.
_FITTING_SHARE = 0.5
_BY_CHANCE = 0.01  # of the exact McNemar test between both orders: 8 images gained and none lost are enough

# Of the simultaneous interval of a class: it excludes less than a fifth of all rates.
_WIDE_INTERVAL = 0.8

_NAMED = 12  # classes in a sentence

Matrix = NDArray[np.int64]


def examine_predictions(evaluation: Evaluation, class_names: tuple[str, ...]) -> list[ReliabilityWarning]:
    """Return what is suspicious about the clean predictions, most fundamental first; often nothing."""
    found = [
        one_answer(evaluation, class_names),
        other_order(evaluation, class_names),
        at_chance(evaluation, len(class_names)),
    ]
    return [warning for warning in found if warning]


def at_chance(evaluation: Evaluation, classes: int) -> ReliabilityWarning | None:
    """Return `clean-at-chance` where the clean accuracy is not surely above that of guessing, 1 / classes."""
    right, images, chance = int(evaluation.correct.sum()), len(evaluation.labels), 1 / classes
    low, high = clopper_pearson(np.array(right), np.array(images), _CHANCE_CONFIDENCE)
    if low > chance or right > _NEAR_CHANCE * chance * images:
        return None
    above = right > chance * images
    return ReliabilityWarning(
        code="clean-at-chance",
        message="There are too few images to tell the network from guessing."
        if above
        else "Without any attack the network is right no more often than by guessing.",
        evidence=f"{right:,} of {images:,} images are right, {right / images:.1%} (90 % interval {low:.1%} to {high:.1%}); "
        f"guessing among {classes} classes gives {chance:.1%}",
        advice=("Audit more images. If the warning stays, check" if above else "Check")
        + " the order of the classes, the "
        "normalisation (mean and std), and that these are the trained weights of this architecture. Robust rates of a network "
        "that guesses mean nothing.",
    )


def one_answer(evaluation: Evaluation, class_names: tuple[str, ...]) -> ReliabilityWarning | None:
    """Return `one-answer` where nearly all images get the same class, though they have several."""
    images = len(evaluation.labels)
    answers = np.bincount(evaluation.clean, minlength=len(class_names))
    answer = int(answers.argmax())
    of_that_class = int((evaluation.labels == answer).sum())
    if answers[answer] < _ONE_ANSWER * images or of_that_class > _COMMON_CLASS * images:
        return None
    return ReliabilityWarning(
        code="one-answer",
        message="The network gives nearly every image the same class.",
        evidence=f"{answers[answer]:,} of {images:,} images are classified as {class_names[answer]!r}; {of_that_class:,} are of "
        "that class",
        advice="Check the normalisation (mean and std) and the weights. A class that is always answered looks perfectly robust.",
    )


def other_order(evaluation: Evaluation, class_names: tuple[str, ...]) -> ReliabilityWarning | None:
    """Return `classes-in-another-order` where the network is right about far more images once its outputs are renamed.

    The renaming is found on one half of the images and counted on the other, and the other way round: on few images of many
    classes some renaming always fits the images that it was found on.
    """
    classes, labels, clean = len(class_names), evaluation.labels, evaluation.clean
    first = np.zeros(len(labels), dtype=bool)
    for label in range(classes):
        first[np.flatnonzero(labels == label)[::2]] = True
    moved, fits = np.zeros(len(labels), dtype=bool), np.zeros(len(labels), dtype=bool)
    for half in (first, ~first):
        renamed = _best_order(_confusions(labels[half], clean[half], classes))
        moved[~half] = (renamed != np.arange(classes))[labels[~half]]
        fits[~half] = (renamed[labels] == clean)[~half]
    gained, lost = int((moved & fits).sum()), int((moved & evaluation.correct).sum())
    if gained < _FITTING_SHARE * moved.sum() or 2 * lost > gained:
        return None
    if mcnemar(np.array([gained]), np.array([lost]))[0] > _BY_CHANCE:
        return None
    renamed = _best_order(_confusions(labels, clean, classes))
    right, would_be = int(evaluation.correct.sum()), int((renamed[labels] == clean).sum())
    return ReliabilityWarning(
        code="classes-in-another-order",
        message="The network has the classes in another order than the images: labels are mixed up.",
        evidence=f"{right:,} of {len(labels):,} images are right, and {would_be:,} would be if the network's outputs were named "
        f"otherwise: {_order(renamed, class_names)}",
        advice="Name the classes in the network's order, or put the images' classes in that order, and audit again.",
    )


def _confusions(labels: Rows, predicted: Rows, classes: int) -> Matrix:
    """Return how many images of each class (rows) got each answer (columns)."""
    return np.bincount(labels * classes + predicted, minlength=classes * classes).reshape(classes, classes)


def _best_order(confusions: Matrix) -> Rows:
    """Return the assignment of answers to classes, each answer used once, that gets most images right; ties stay as given."""
    _, answers = linear_sum_assignment(2 * confusions + np.eye(len(confusions), dtype=int), maximize=True)
    return answers


def _order(renamed: Rows, class_names: tuple[str, ...]) -> str:
    """Return the names of the outputs that would fit: of all in their order, or of the first that change."""
    names = [""] * len(class_names)
    for label, answer in enumerate(renamed):
        names[answer] = class_names[label]
    if len(names) <= _NAMED:
        return ", ".join(names)
    changed = [f"{i} is {name}" for i, name in enumerate(names) if name != class_names[i]]
    return (
        "output "
        + ", ".join(changed[:_NAMED])
        + (f" and {len(changed) - _NAMED} more" if len(changed) > _NAMED else "")
    )


def few_images(rows: tuple[ClassRow, ...]) -> list[ReliabilityWarning]:
    """Return `few-images` where classes have so few images that the interval of their robust rate excludes next to nothing."""
    vague = [row for row in rows if row.robust.high - row.robust.low > _WIDE_INTERVAL]
    if not vague:
        return []
    named = ", ".join(f"{row.name} ({row.images})" for row in vague[:_NAMED])
    more = f" and {len(vague) - _NAMED} more" if len(vague) > _NAMED else ""
    return [
        ReliabilityWarning(
            code="few-images",
            message="Classes have too few images for a rate.",
            evidence=f"the intervals of {len(vague)} of {len(rows)} classes span more than {100 * _WIDE_INTERVAL:g} points; "
            f"images of each: {named}{more}",
            advice="Audit more images of these classes. Until then neither their rates nor the worst class's say much.",
        )
    ]
