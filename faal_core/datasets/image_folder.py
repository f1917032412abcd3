"""Image files with labels, in a folder or a .zip.

A class is a folder's name, or the label in a table labels.csv; `folder_layout` says where everything lies, `image_file` what is
read, `class_order` in which order the classes are. A table groups.csv may say which group each image belongs to.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import numpy as np
import torch

from faal_core.archives import MAX_BYTES
from faal_core.datasets import image_source
from faal_core.datasets.class_order import NameOrder, ordered
from faal_core.datasets.folder_layout import Layout, layout
from faal_core.datasets.image_file import Decoder, Resizing
from faal_core.datasets.image_tables import read_groups, read_labels
from faal_core.datasets.labelled_images import LabelledImages, Part
from faal_core.datasets.names import require_names
from faal_core.datasets.pixel_range import require_levels
from faal_core.errors import DatasetInvalid
from faal_core.specs import MAX_CLASSES


@dataclass(frozen=True, slots=True)
class Reading:
    """How files of images are read, where there is a choice.

    Args:
        resizing: brings images to one size.
        class_order: of the classes' names; natural where they are all numbers, string otherwise, when absent.
    """

    resizing: Resizing = field(default_factory=Resizing)
    class_order: NameOrder | None = None


def parts(path: Path) -> tuple[Part, ...]:
    """Return which parts the folder or archive has. Raises: DatasetInvalid."""
    with image_source.opened(path) as source:
        return tuple(layout(source.names).images)


def load(path: Path, part: Part, reading: Reading) -> LabelledImages:
    """Return one part of the folder or archive, decoded in memory.

    Raises: DatasetInvalid where it, or an image in it, breaks a rule.
    """
    with image_source.opened(path) as source:
        found = layout(source.names, source.folders)
        if part not in found.images:
            raise DatasetInvalid(
                f"{source.title} has no {part} part. Put its class folders below a folder named {part}; class folders alone are "
                f"a test part. There is: {', '.join(found.images)}.",
                remedy="part" if part == "test" else None,
            )
        classes = _classes(found, source.read)
        called = found.classes or frozenset(classes.values())
        require_names(f"{source.title}: a class", called)
        names, order = ordered(called, reading.class_order)
        if len(names) > MAX_CLASSES:
            raise DatasetInvalid(f"{source.title} has {len(names):,} classes; 2 to {MAX_CLASSES:,} are read.")
        if len(names) < 2:
            raise DatasetInvalid(
                f"{source.title} has the class {names[0]!r} alone; 2 to {MAX_CLASSES} classes are read."
            )
        number = {name: c for c, name in enumerate(names)}
        chosen, decoder = found.images[part], Decoder(reading.resizing)
        images, notes = _decode_all(chosen, source.read, decoder)
        require_levels(images, f"{source.title} ({part})")
        return LabelledImages(
            images=torch.from_numpy(images),
            labels=torch.tensor([number[classes[image]] for image in chosen]),
            class_names=names,
            name=source.title,
            part=part,
            groups=read_groups(found, part, source.read),
            class_order=order,
            preparation=(*notes, *decoder.notes()),
        )


def _classes(found: Layout, read: Callable[[str], bytes]) -> Mapping[str, str]:
    """The class of each image of every part: its label in the table, or the name of its folder."""
    labels = read_labels(found, read)
    if labels is not None:
        return labels
    return {image: PurePosixPath(image).parent.name for images in found.images.values() for image in images}


def _decode_all(
    names: Sequence[str], read: Callable[[str], bytes], decoder: Decoder
) -> tuple[np.ndarray, tuple[str, ...]]:
    """The images in order, n × c × h × w, uint8, and what was done to bring them together.

    Grey images beside RGB ones get three equal channels. Raises: DatasetInvalid naming the first of another size than the first.
    """
    first = decoder.decode(names[0], read)
    decoder.conversions.clear()
    images, grey = _room(len(names), first), 0
    for row, name in enumerate(names):
        image = decoder.decode(name, read)
        if image.shape[1:] != first.shape[1:]:
            raise DatasetInvalid(
                f"{name} is {_described(image)}, {names[0]} is {_described(first)}; all must have one size.",
                remedy="resize",
            )
        if len(image) == 3 and images.shape[1] == 1:
            earlier, images = images, _room(len(names), image)
            images[:row] = earlier[:row]
        grey += len(image) == 1
        images[row] = image
    if images.shape[1] == 1 or not grey:
        return images, ()
    return images, (f"{grey:,} grey images as RGB with three equal channels.",)


def _room(count: int, image: np.ndarray) -> np.ndarray:
    """Memory for that many images like this one. Raises: DatasetInvalid."""
    if image.nbytes * count > MAX_BYTES:
        raise DatasetInvalid(f"{count:,} images of {image.nbytes:,} bytes exceed {MAX_BYTES:,} bytes in memory.")
    return np.empty((count, *image.shape), np.uint8)


def _described(image: np.ndarray) -> str:
    """The image's size and kind in words."""
    channels, height, width = image.shape
    return f"{width} × {height} {'grey' if channels == 1 else 'RGB'}"
