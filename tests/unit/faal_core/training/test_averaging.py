"""The moving average of weights."""

from collections.abc import Callable

import torch
from torch import nn

from faal_core.classifier import Classifier
from faal_core.specs import Averaging, ClassifierSpec
from faal_core.training.averaging import WeightAverage
from faal_core.training.validation import ValidationAccuracy


def classifier_of(value: float) -> Classifier:
    """A network whose weights and batch-norm statistics all have that value."""
    network = nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2))
    for tensor in network.state_dict().values():
        if tensor.is_floating_point():
            tensor.fill_(value)
    return Classifier(network, ClassifierSpec(architecture="small_resnet", num_classes=2))


def judged_as(worst: float) -> Callable[[Classifier], ValidationAccuracy]:
    """A judge who always says so of the worst class."""
    return lambda _: ValidationAccuracy(clean=(1.0, 1.0), robust=(worst, 1.0), images=(1, 1))


def values(average: WeightAverage) -> set[float]:
    """All numbers of the average."""
    tensors = average.classifier.state_dict().values()
    return {
        round(number, 6) for tensor in tensors if tensor.is_floating_point() for number in tensor.flatten().tolist()
    }


def test_the_average_begins_with_the_classifier_and_decays() -> None:
    """After weights of 1, then 2 and 3: ((1 · d + 2 (1 − d)) d + 3 (1 − d)), statistics of batch-norm alike."""
    average = WeightAverage(classifier_of(1), Averaging(decay=0.9))
    assert values(average) == {1.0}
    for value in (2, 3):
        average.after_step(classifier_of(value))
        average.after_epoch(classifier_of(100), judged_as(1.0))
    assert values(average) == {round((1 * 0.9 + 2 * 0.1) * 0.9 + 3 * 0.1, 6)}


def test_an_epoch_whose_worst_class_is_too_weak_is_left_out() -> None:
    """With min_robust_worst 0.2, epochs with a worst class of 0.19 change nothing and one with 0.2 counts."""
    average = WeightAverage(classifier_of(1), Averaging(decay=0.5, every="epoch", min_robust_worst=0.2))
    for value, worst in ((5, 0.19), (3, 0.2), (7, 0.0)):
        average.after_step(classifier_of(100))
        average.after_epoch(classifier_of(value), judged_as(worst))
    assert values(average) == {2.0}


def test_it_goes_on_from_its_state() -> None:
    """The state of one average, loaded into another, makes it the same, and the next update too."""
    one, two = (WeightAverage(classifier_of(value), Averaging(decay=0.9)) for value in (1, 4))
    two.load_state_dict(one.state_dict())
    for average in (one, two):
        average.after_step(classifier_of(2))
    assert values(one) == values(two) == {1.1}
    assert torch.equal(one.n_averaged, two.n_averaged)
