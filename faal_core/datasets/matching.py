"""Whether a classifier and images go together: classes, channels, radius."""

from faal_core.classifier import Classifier
from faal_core.datasets.class_order import aligned, listed
from faal_core.datasets.labelled_images import LabelledImages
from faal_core.errors import InvalidSpec
from faal_core.threat_model import ThreatModel


def match_classes(classifier: Classifier, data: LabelledImages) -> LabelledImages:
    """Return the data with labels in the classifier's order of classes. Raises: InvalidSpec where the two do not fit."""
    data = aligned(data, classifier.spec.class_names, classifier.num_classes)
    check_fit(classifier, data)
    return data


def check_fit(classifier: Classifier, data: LabelledImages) -> None:
    """Raises: InvalidSpec when the data's channels or classes (number; order, where both name them) are not the classifier's."""
    if classifier.num_classes != len(data.class_names):
        from_one = len(data.class_names) == classifier.num_classes + 1 and not data.counts[0]
        hint = " No image has label 0: where labels begin at 1, store labels − 1." if from_one else ""
        raise InvalidSpec(
            f"The classifier has {classifier.num_classes} classes and {data.name} has {len(data.class_names)}: "
            f"{listed(data.class_names)}.{hint}"
        )
    if classifier.spec.channels != data.images.shape[1]:
        raise InvalidSpec(
            f"The classifier takes {classifier.spec.channels} channels (one mean each) and {data.name} has "
            f"{data.images.shape[1]}."
        )
    named = classifier.spec.class_names
    if named is not None and named != data.class_names and set(named) == set(data.class_names):
        raise InvalidSpec(
            f"The classifier and {data.name} have the same classes in another order: labels would be mixed up."
        )


def check_radius(threat: ThreatModel, data: LabelledImages) -> None:
    """Check that the radius is at most the diameter of all images with pixels in [0, 1].

    Raises: InvalidSpec where any image could become any other, so that nothing is left to be robust against.
    """
    if threat.epsilon > (diameter := threat.diameter(data.images.shape[1:])):
        size = " × ".join(map(str, data.images.shape[1:]))
        raise InvalidSpec(
            f"The radius {threat} exceeds {diameter:.4g}, the largest distance between two images of {size}. State the radius in "
            "pixels of [0, 1]: divide a radius in grey levels by 255."
        )
