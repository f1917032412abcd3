"""Warnings about suspicious images or labels, for an audit's report."""

from collections.abc import Iterator, Sequence

import torch

from faal_core.datasets.class_order import is_ambiguous, quote_names
from faal_core.datasets.labelled_images import LabelledImages
from faal_core.results.documents import ReliabilityWarning
from faal_core.specs.class_names import normalise_name


def examine_data(data: LabelledImages, names: Sequence[str] | None) -> tuple[ReliabilityWarning, ...]:
    """Return the warnings about images that `align_labels` has matched to a classifier with those class names."""
    return tuple(_iterate_warnings(data, names))


def _iterate_warnings(data: LabelledImages, names: Sequence[str] | None) -> Iterator[ReliabilityWarning]:
    """Yield the warnings one by one."""
    if names is None and is_ambiguous(data):
        other = "numerical" if data.class_order == "assumed-string" else "alphabetical"
        used = "alphabetical" if data.class_order == "assumed-string" else "numerical"
        yield ReliabilityWarning(
            code="class-order-assumed",
            message=f"The order of the classes was assumed: names were taken in {used} order.",
            evidence="the classifier has no class names; first in the assumed order: "
            f"{quote_names(data.class_names)}; {other} order differs",
            advice="State the names of the network's classes in the order of its outputs, or the order of the folders. "
            "torchvision's ImageFolder takes folders in alphabetical order: 0, 1, 10, 11, 2.",
        )
    if names is not None:
        pairs = [
            (a, b) for a, b in zip(data.class_names, names, strict=False) if normalise_name(a) != normalise_name(b)
        ]
        if pairs and not all(name.isdecimal() for name in names):
            shown = "; ".join(f"{a!r} for {b!r}" for a, b in pairs[:5])
            yield ReliabilityWarning(
                code="class-names-differ",
                message="Classes were matched by position, because the data set and the classifier use different class names.",
                evidence=f"{len(pairs)} of {len(names)} names differ: {shown}{' …' if len(pairs) > 5 else ''}",
                advice="Compare the two orders; if they differ, give each class the same name in both.",
            )
    if missing := data.classes_without_images:
        yield ReliabilityWarning(
            code="classes-without-images",
            message=f"{len(missing)} of {len(data.class_names)} classes have no image here, so this audit does not assess them.",
            evidence=f"no {data.part} image of {quote_names(missing)}",
            advice="Means, worst class and intervals cover the other classes. Add images of these classes to audit them, too.",
        )
    if data.images.dtype == torch.uint8 and not any(piece.any() for piece in data.pieces()):
        yield ReliabilityWarning(
            code="black-images",
            message="All images are black.",
            evidence=f"the highest level of {len(data):,} images is 0 of 255",
            advice="If floats in [0, 1] were cast to uint8, store the floats, or (255 * images).round() as uint8.",
        )
