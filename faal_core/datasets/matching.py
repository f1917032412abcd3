"""Check whether a classifier and images fit each other: classes, channels, radius."""

from faal_core.classifier import Classifier
from faal_core.datasets.class_order import align_labels, quote_names
from faal_core.datasets.labelled_images import LabelledImages
from faal_core.errors import InvalidSpec
from faal_core.threat_model import ThreatModel


def match_classes(classifier: Classifier, data: LabelledImages) -> LabelledImages:
    """Return the data with labels in the classifier's order of classes. Raises: InvalidSpec where the two do not fit."""
    data = align_labels(data, classifier.spec.class_names, classifier.num_classes)
    check_fit(classifier, data)
    return data


def check_fit(classifier: Classifier, data: LabelledImages) -> None:
    """Check that the data has the classifier's channels and number of classes, and its order where both have the same names.

    Raises: InvalidSpec.
    """
    if classifier.num_classes != len(data.class_names):
        from_one = len(data.class_names) == classifier.num_classes + 1 and not data.counts[0]
        hint = " No image has label 0. If your labels begin at 1, store labels − 1." if from_one else ""
        raise InvalidSpec(
            f"The classifier has {classifier.num_classes} classes and {data.name} has {len(data.class_names)}: "
            f"{quote_names(data.class_names)}.{hint}"
        )
    if classifier.spec.channels != data.images.shape[1]:
        raise InvalidSpec(
            f"The classifier takes {classifier.spec.channels} channels (one mean each) and {data.name} has "
            f"{data.images.shape[1]}."
        )
    named = classifier.spec.class_names
    if named is not None and named != data.class_names and set(named) == set(data.class_names):
        raise InvalidSpec(
            f"The classifier and {data.name} have the same classes in different orders; labels would be mixed up. "
            "Use one order in both."
        )


def check_radius(threat: ThreatModel, data: LabelledImages) -> None:
    """Check that the radius is at most the largest distance between two images with pixels in [0, 1].

    Raises: InvalidSpec where the radius is larger: then every image could become any other.
    """
    if threat.epsilon > (diameter := threat.diameter(data.images.shape[1:])):
        size = " × ".join(map(str, data.images.shape[1:]))
        raise InvalidSpec(
            f"The radius {threat} exceeds {diameter:.4g}, the largest distance between two images of {size}. State the radius in "
            "pixels of [0, 1]: divide a radius in grey levels by 255."
        )
