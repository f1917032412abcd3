"""The order of classes: which label each class has.

The order of a network's logits is fixed, and labels must follow it. Class names decide the order where both the classifier
and the data set have them. Otherwise the order of the data set's names is assumed, and reports say so.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Literal

import numpy as np
import torch

from faal_core.datasets.labelled_images import LabelledImages
from faal_core.errors import InvalidSpec
from faal_core.results.documents import ClassOrder
from faal_core.specs.class_names import normalise_name

NameOrder = Literal["natural", "string"]
_MAX_QUOTED = 5  # names, at most, in a message


def order_names(names: Iterable[str], order: NameOrder | None) -> tuple[tuple[str, ...], ClassOrder]:
    """Return the distinct names in that order, and the order's name in reports.

    Args:
        order: natural sorts numbers within names by their value. string sorts by characters, as torchvision's ImageFolder
            does. None means natural where all names are whole numbers, and string otherwise.
    """
    by_text = sorted(set(names))
    if order is None:
        numbers = all(name.isdecimal() for name in by_text)
        return (_sort_naturally(by_text), "assumed-natural") if numbers else (tuple(by_text), "assumed-string")
    return (_sort_naturally(by_text), "natural") if order == "natural" else (tuple(by_text), "string")


def is_ambiguous(data: LabelledImages) -> bool:
    """Return whether the order of the classes was assumed and natural and string order differ."""
    return data.class_order.startswith("assumed") and _sort_naturally(data.class_names) != tuple(
        sorted(data.class_names)
    )


def _sort_naturally(names: Iterable[str]) -> tuple[str, ...]:
    """Return the names sorted by the values of the numbers in them; names that differ only in leading zeros by characters."""

    def key(name: str) -> tuple[list[tuple[int, int, str]], str]:
        parts = re.split(r"(\d+)", name)
        return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts if part], name

    return tuple(sorted(names, key=key))


def align_labels(data: LabelledImages, names: Sequence[str] | None, num_classes: int) -> LabelledImages:
    """Return the images with labels in the order of a classifier's classes, and with its class names where it has them.

    Names decide where all of the data set's names are among the classifier's, compared by `normalise_name`. Class names that are
    numbers mean positions. Otherwise both orders are assumed to be equal, and reports warn of it. `check_fit` checks the
    number of classes.

    Raises: InvalidSpec where only some names are shared and their positions differ.
    """
    if names is None:
        return _label_by_number(data, None, num_classes)
    names = tuple(names)
    target, source = _index_names(names), _index_names(data.class_names)
    if len(target) < len(names) or len(source) < len(data.class_names):  # such as "a b" and "a_b": then compare exactly
        target, source = ({name: c for c, name in enumerate(both)} for both in (names, data.class_names))
    shared = source.keys() & target.keys()
    if len(shared) == len(source):
        same = names == data.class_names
        return data if same else _relabel(data, [target[name] for name in source], names, "matched")
    if not shared:
        return _label_by_number(data, names, num_classes)
    if len(source) == len(target) and all(source[name] == target[name] for name in shared):
        return data
    unknown = [data.class_names[c] for name, c in source.items() if name not in shared]
    unmatched = [names[c] for name, c in target.items() if name not in shared]
    raise InvalidSpec(
        f"{data.name} and the classifier share {len(shared)} class names, at different positions, and the rest differ: "
        f"{data.name} has {quote_names(unknown)}, the classifier {quote_names(unmatched) if unmatched else 'no other'}. "
        "Labels would be mixed up. Give each class the same name in both.",
        remedy="class-names",
    )


def quote_names(names: Sequence[str]) -> str:
    """Return the first few names, quoted, for a message."""
    more = f" and {len(names) - _MAX_QUOTED} more" if len(names) > _MAX_QUOTED else ""
    return ", ".join(repr(name) for name in names[:_MAX_QUOTED]) + more


def _index_names(names: Sequence[str]) -> dict[str, int]:
    """Return the index of each name by its normalise_name form; the result is shorter where two names have the same form."""
    return {normalise_name(name): c for c, name in enumerate(names)}


def _label_by_number(data: LabelledImages, names: tuple[str, ...] | None, num_classes: int) -> LabelledImages:
    """Return the images labelled by the numbers that name their classes; unchanged unless every name is a class number."""
    if data.class_order == "string" or not all(name.isdecimal() for name in data.class_names):
        return data
    numbers = [int(name) for name in data.class_names]
    if len(set(numbers)) < len(numbers) or max(numbers) >= num_classes:
        return data
    if data.class_order == "stored" and numbers != list(range(len(numbers))):
        return data
    if names is None and len(numbers) == num_classes:
        return data
    return _relabel(data, numbers, names or tuple(str(c) for c in range(num_classes)), data.class_order)


def _relabel(data: LabelledImages, places: Sequence[int], names: tuple[str, ...], order: ClassOrder) -> LabelledImages:
    """Return the images with label `places[c]` in place of c, and those class names."""
    labels = torch.from_numpy(np.asarray(places, dtype=np.int64))[data.labels]
    return replace(data, labels=labels, class_names=names, class_order=order)
