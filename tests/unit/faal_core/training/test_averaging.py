"""The moving average of weights."""

from collections.abc import Callable

import torch
from torch import nn

from faal_core.classifier import Classifier
from faal_core.specs import Averaging, ClassifierSpec
from faal_core.training.averaging import WeightAverage
from faal_core.training.validation import ValidationAccuracy


def classifier_of(value: float) -> Classifier:
    """Build a network whose weights and batch-norm statistics all have that value."""
    network = nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2))
    for tensor in network.state_dict().values():
        if tensor.is_floating_point():
            tensor.fill_(value)
    return Classifier(network, ClassifierSpec(architecture="small_resnet", num_classes=2))


def make_judge(worst: float) -> Callable[[Classifier], ValidationAccuracy]:
    """Return a function that reports this accuracy of the worst class for any classifier."""
    return lambda _: ValidationAccuracy(clean=(1.0, 1.0), robust=(worst, 1.0), images=(1, 1))


def values(average: WeightAverage) -> set[float]:
    """Return all numbers of the average."""
    tensors = average.classifier.state_dict().values()
    return {
        round(number, 6) for tensor in tensors if tensor.is_floating_point() for number in tensor.flatten().tolist()
    }


def test_the_average_begins_with_the_classifier_and_decays() -> None:
    """Weights and statistics of 1, then 2 and 3, average to (1 · d + 2 (1 − d)) d + 3 (1 − d)."""
    average = WeightAverage(classifier_of(1), Averaging(decay=0.9))
    assert values(average) == {1.0}
    for value in (2, 3):
        average.after_step(classifier_of(value))
        average.after_epoch(classifier_of(100), make_judge(1.0))
    assert values(average) == {round((1 * 0.9 + 2 * 0.1) * 0.9 + 3 * 0.1, 6)}


def test_an_epoch_whose_worst_class_is_too_weak_is_left_out() -> None:
    """With min_robust_worst 0.2, an epoch with a worst class of 0.19 does not change the average, and one with 0.2 does."""
    average = WeightAverage(classifier_of(1), Averaging(decay=0.5, every="epoch", min_robust_worst=0.2))
    for value, worst in ((5, 0.19), (3, 0.2), (7, 0.0)):
        average.after_step(classifier_of(100))
        average.after_epoch(classifier_of(value), make_judge(worst))
    assert values(average) == {2.0}


def test_it_resumes_from_its_state() -> None:
    """An average that loads the state of another has the same values, also after the next update."""
    one, two = (WeightAverage(classifier_of(value), Averaging(decay=0.9)) for value in (1, 4))
    two.load_state_dict(one.state_dict())
    for average in (one, two):
        average.after_step(classifier_of(2))
    assert values(one) == values(two) == {1.1}
    assert torch.equal(one.n_averaged, two.n_averaged)
