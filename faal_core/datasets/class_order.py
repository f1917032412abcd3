"""The order of classes: which label a class has, decided by names as far as there are any.

A network's logits have an order, and labels are only right in that order. Names decide it where both the classifier and
the data set have them; otherwise the order of the data set's names is assumed, and reports say so.
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
from faal_core.specs.class_names import comparable

NameOrder = Literal["natural", "string"]
_LISTED = 5  # names, at most, in a message


def ordered(names: Iterable[str], order: NameOrder | None) -> tuple[tuple[str, ...], ClassOrder]:
    """Return the names in that order, and what the order is called in reports.

    Args:
        order: natural sorts numbers within names by their value, string sorts by characters (as torchvision's ImageFolder
            does). None is natural where all names are whole numbers, and string otherwise.
    """
    by_text = sorted(set(names))
    if order is None:
        numbers = all(name.isdecimal() for name in by_text)
        return (_natural(by_text), "assumed-natural") if numbers else (tuple(by_text), "assumed-string")
    return (_natural(by_text), "natural") if order == "natural" else (tuple(by_text), "string")


def is_ambiguous(data: LabelledImages) -> bool:
    """Return whether nobody has said in which order the classes are, and natural and string order differ."""
    return data.class_order.startswith("assumed") and _natural(data.class_names) != tuple(sorted(data.class_names))


def _natural(names: Iterable[str]) -> tuple[str, ...]:
    """The names with the numbers in them by value; names that differ in leading zeros alone by characters."""

    def key(name: str) -> tuple[list[tuple[int, int, str]], str]:
        parts = re.split(r"(\d+)", name)
        return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts if part], name

    return tuple(sorted(names, key=key))


def aligned(data: LabelledImages, names: Sequence[str] | None, num_classes: int) -> LabelledImages:
    """Return the images with labels in the order of a classifier's classes, called `names` where it names them.

    Where all of the data set's names are among the classifier's, by `comparable`, names decide. Class names that are mere
    numbers are positions. Otherwise both orders are taken to be the same, which reports warn of; a number of classes that
    differs is left to `check_fit`.

    Raises: InvalidSpec where only some names are shared and they have other positions.
    """
    if names is None:
        return _numbered(data, None, num_classes)
    names = tuple(names)
    theirs, ours = _places(names), _places(data.class_names)
    if len(theirs) < len(names) or len(ours) < len(data.class_names):  # such as "a b" and "a_b": to the letter, then
        theirs, ours = ({name: c for c, name in enumerate(given)} for given in (names, data.class_names))
    shared = ours.keys() & theirs.keys()
    if len(shared) == len(ours):
        same = names == data.class_names
        return data if same else _relabelled(data, [theirs[name] for name in ours], names, "matched")
    if not shared:
        return _numbered(data, names, num_classes)
    if len(ours) == len(theirs) and all(ours[name] == theirs[name] for name in shared):
        return data
    unknown = [data.class_names[c] for name, c in ours.items() if name not in shared]
    unmatched = [names[c] for name, c in theirs.items() if name not in shared]
    raise InvalidSpec(
        f"{data.name} and the classifier share {len(shared)} class names, in another order, and the rest differ: "
        f"{data.name} has {listed(unknown)}, the classifier {listed(unmatched) if unmatched else 'no other'}. Labels would be "
        "mixed up; give each class the same name in both.",
        remedy="class-names",
    )


def listed(names: Sequence[str]) -> str:
    """Return the first few names for a message."""
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return ", ".join(repr(name) for name in names[:_LISTED]) + more


def _places(names: Sequence[str]) -> dict[str, int]:
    """The place of each name by its comparable form; fewer than names where two have the same."""
    return {comparable(name): c for c, name in enumerate(names)}


def _numbered(data: LabelledImages, names: tuple[str, ...] | None, num_classes: int) -> LabelledImages:
    """The images with the number in a class's name as its label, if all names are numbers of classes; else as they are."""
    if data.class_order == "string" or not all(name.isdecimal() for name in data.class_names):
        return data
    numbers = [int(name) for name in data.class_names]
    if len(set(numbers)) < len(numbers) or max(numbers) >= num_classes:
        return data
    if data.class_order == "stored" and numbers != list(range(len(numbers))):
        return data
    if names is None and len(numbers) == num_classes:
        return data
    return _relabelled(data, numbers, names or tuple(str(c) for c in range(num_classes)), data.class_order)


def _relabelled(
    data: LabelledImages, places: Sequence[int], names: tuple[str, ...], order: ClassOrder
) -> LabelledImages:
    """The images with label `places[c]` in place of c, and those class names."""
    labels = torch.from_numpy(np.asarray(places, dtype=np.int64))[data.labels]
    return replace(data, labels=labels, class_names=names, class_order=order)
