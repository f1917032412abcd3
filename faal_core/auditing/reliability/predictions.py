"""Check the clean predictions of all images: chance level, one answer, classes in another order, classes of few images."""

import numpy as np
from numpy.typing import NDArray

from faal_core.results.documents import ClassRow, ReliabilityWarning
from faal_core.results.image_outcomes import Evaluation, Rows
from faal_core.results.intervals import clopper_pearson, mcnemar

# Gives a one-sided 95 % bound. On few images it is far below the rate, so that a rate well above chance raises no warning.
_CHANCE_CONFIDENCE = 0.90
_NEAR_CHANCE = 1.5  # multiple of the chance level; higher rates raise no warning

# Fraction of the images. One different answer in a hundred carries no more information than none.
_ONE_ANSWER = 0.99
_COMMON_CLASS = 0.9  # fraction of the images: with a class this common, a good network gives nearly one answer

# Fraction of the images of the classes that another order moves: half are right in that order, and at most half as many
# without. A network that merely confuses classes has more right images than wrong ones of any one kind.
_FITTING_FRACTION = 0.5
_SIGNIFICANCE = 0.01  # level of the exact McNemar test between both orders: 8 images gained and none lost are enough

# Width of the simultaneous interval of a class: a wider one excludes less than a fifth of all rates.
_WIDE_INTERVAL = 0.8

_LISTED = 12  # most classes in a sentence

Matrix = NDArray[np.int64]


def examine_predictions(evaluation: Evaluation, class_names: tuple[str, ...]) -> list[ReliabilityWarning]:
    """Return warnings about the clean predictions, the most fundamental first."""
    warnings = [
        check_one_answer(evaluation, class_names),
        check_class_order(evaluation, class_names),
        check_chance_level(evaluation, len(class_names)),
    ]
    return [warning for warning in warnings if warning]


def check_chance_level(evaluation: Evaluation, classes: int) -> ReliabilityWarning | None:
    """Return `clean-at-chance` where the clean accuracy is not significantly above that of guessing, 1 / classes."""
    right, images, chance = int(evaluation.correct.sum()), len(evaluation.labels), 1 / classes
    low, high = clopper_pearson(np.array(right), np.array(images), _CHANCE_CONFIDENCE)
    if low > chance or right > _NEAR_CHANCE * chance * images:
        return None
    above = right > chance * images
    return ReliabilityWarning(
        code="clean-at-chance",
        message="There are too few images to tell whether the network is better than guessing."
        if above
        else "Without any attack the network is no better than guessing.",
        evidence=f"{right:,} of {images:,} images are right, {right / images:.1%} (90 % interval {low:.1%} to {high:.1%}); "
        f"guessing among {classes} classes gives {chance:.1%}",
        advice=("Audit more images. If the warning stays, check" if above else "Check")
        + " the order of the classes, the "
        "normalisation (mean and std), and that these are the trained weights of this architecture. Robust rates of a network "
        "that guesses mean nothing.",
    )


def check_one_answer(evaluation: Evaluation, class_names: tuple[str, ...]) -> ReliabilityWarning | None:
    """Return `one-answer` where nearly all images get the same class, though they belong to several."""
    images = len(evaluation.labels)
    answers = np.bincount(evaluation.clean, minlength=len(class_names))
    answer = int(answers.argmax())
    of_that_class = int((evaluation.labels == answer).sum())
    if answers[answer] < _ONE_ANSWER * images or of_that_class > _COMMON_CLASS * images:
        return None
    return ReliabilityWarning(
        code="one-answer",
        message="The network assigns the same class to nearly every image.",
        evidence=f"{answers[answer]:,} of {images:,} images are classified as {class_names[answer]!r}; {of_that_class:,} "
        "belong to that class",
        advice="Check the normalisation (mean and std) and the weights. A class that is always predicted seems fully "
        "robust.",
    )


def check_class_order(evaluation: Evaluation, class_names: tuple[str, ...]) -> ReliabilityWarning | None:
    """Return `classes-in-another-order` where far more images are classified correctly once the outputs are renamed.

    The renaming is fitted on one half of the images and counted on the other half, and vice versa. On few images of many
    classes some renaming always fits the images that it was fitted on.
    """
    classes, labels, clean = len(class_names), evaluation.labels, evaluation.clean
    first = np.zeros(len(labels), dtype=bool)
    for label in range(classes):
        first[np.flatnonzero(labels == label)[::2]] = True
    reordered, fits = np.zeros(len(labels), dtype=bool), np.zeros(len(labels), dtype=bool)
    for half in (first, ~first):
        order = _find_best_order(_count_confusions(labels[half], clean[half], classes))
        reordered[~half] = (order != np.arange(classes))[labels[~half]]
        fits[~half] = (order[labels] == clean)[~half]
    gained, lost = int((reordered & fits).sum()), int((reordered & evaluation.correct).sum())
    if gained < _FITTING_FRACTION * reordered.sum() or 2 * lost > gained:
        return None
    if mcnemar(np.array([gained]), np.array([lost]))[0] > _SIGNIFICANCE:
        return None
    order = _find_best_order(_count_confusions(labels, clean, classes))
    right, would_be = int(evaluation.correct.sum()), int((order[labels] == clean).sum())
    return ReliabilityWarning(
        code="classes-in-another-order",
        message="The network has its classes in another order than the images, so the labels do not match.",
        evidence=f"{right:,} of {len(labels):,} images are right, and {would_be:,} would be if the network's outputs were named "
        f"otherwise: {_describe_order(order, class_names)}",
        advice="Name the classes in the network's order, or reorder the images' classes, and audit again.",
    )


def _count_confusions(labels: Rows, predicted: Rows, classes: int) -> Matrix:
    """Return how many images of each class (rows) got each answer (columns)."""
    return np.bincount(labels * classes + predicted, minlength=classes * classes).reshape(classes, classes)


def _find_best_order(confusions: Matrix) -> Rows:
    """Return the assignment of answers to classes, each used once, that makes most images right; ties keep the given order."""
    from scipy.optimize import linear_sum_assignment  # takes a quarter of a second to import

    _, answers = linear_sum_assignment(2 * confusions + np.eye(len(confusions), dtype=int), maximize=True)
    return answers


def _describe_order(order: Rows, class_names: tuple[str, ...]) -> str:
    """Return the names of the outputs that would fit: all names in order, or the first ones that change."""
    names = [""] * len(class_names)
    for label, answer in enumerate(order):
        names[answer] = class_names[label]
    if len(names) <= _LISTED:
        return ", ".join(names)
    changed = [f"{i} is {name}" for i, name in enumerate(names) if name != class_names[i]]
    return (
        "output "
        + ", ".join(changed[:_LISTED])
        + (f" and {len(changed) - _LISTED} more" if len(changed) > _LISTED else "")
    )


def check_class_sizes(rows: tuple[ClassRow, ...]) -> list[ReliabilityWarning]:
    """Return `few-images` where classes have so few images that the interval of their robust rate excludes next to nothing."""
    vague = [row for row in rows if row.robust.high - row.robust.low > _WIDE_INTERVAL]
    if not vague:
        return []
    listed = ", ".join(f"{row.name} ({row.images})" for row in vague[:_LISTED])
    more = f" and {len(vague) - _LISTED} more" if len(vague) > _LISTED else ""
    return [
        ReliabilityWarning(
            code="few-images",
            message="Some classes have too few images for a meaningful rate.",
            evidence=f"the intervals of {len(vague)} of {len(rows)} classes span more than {100 * _WIDE_INTERVAL:g} points; "
            f"images of each: {listed}{more}",
            advice="Audit more images of these classes. Until then their rates and the worst class's rate are very "
            "uncertain.",
        )
    ]
