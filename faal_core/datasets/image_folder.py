"""Image files with labels, in a folder or a .zip.

A class is a folder's name, or the label in a table labels.csv. A table groups.csv may assign images to groups. `folder_layout`
finds the files, `image_file` decodes them, `class_order` sorts the classes.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import numpy as np
import torch

from faal_core.archives import MAX_BYTES
from faal_core.datasets import image_source
from faal_core.datasets.class_order import NameOrder, order_names
from faal_core.datasets.folder_layout import Layout, derive_layout
from faal_core.datasets.image_file import Decoder, Resizing
from faal_core.datasets.image_tables import read_groups, read_labels
from faal_core.datasets.labelled_images import LabelledImages, Part
from faal_core.datasets.names import require_names
from faal_core.datasets.pixel_range import require_levels
from faal_core.errors import DatasetInvalid
from faal_core.specs import MAX_CLASSES


@dataclass(frozen=True, slots=True)
class Reading:
    """Options for reading image files.

    Args:
        resizing: brings images to one size.
        class_order: the order of the class names. None means natural where all are numbers, and string otherwise.
    """

    resizing: Resizing = field(default_factory=Resizing)
    class_order: NameOrder | None = None


def list_parts(path: Path) -> tuple[Part, ...]:
    """Return the parts of the folder or archive. Raises: DatasetInvalid."""
    with image_source.open_source(path) as source:
        return tuple(derive_layout(source.names).images)


def load(path: Path, part: Part, reading: Reading) -> LabelledImages:
    """Return one part of the folder or archive, decoded in memory.

    Raises: DatasetInvalid where the data set or one of its images breaks a rule.
    """
    with image_source.open_source(path) as source:
        layout = derive_layout(source.names, source.folders)
        if part not in layout.images:
            raise DatasetInvalid(
                f"{source.title} has no {part} part. Put its class folders below a folder named {part}; class folders alone are "
                f"a test part. Its parts: {', '.join(layout.images)}.",
                remedy="part" if part == "test" else None,
            )
        classes = _map_classes(layout, source.read)
        folder_names = layout.classes or frozenset(classes.values())
        require_names(f"{source.title}: a class", folder_names)
        names, order = order_names(folder_names, reading.class_order)
        if len(names) > MAX_CLASSES:
            raise DatasetInvalid(f"{source.title} has {len(names):,} classes; 2 to {MAX_CLASSES:,} are supported.")
        if len(names) < 2:
            raise DatasetInvalid(
                f"{source.title} has only the class {names[0]!r}; 2 to {MAX_CLASSES:,} classes are supported."
            )
        label_by_name = {name: c for c, name in enumerate(names)}
        names_of_part, decoder = layout.images[part], Decoder(reading.resizing)
        images, notes = _decode_images(names_of_part, source.read, decoder)
        require_levels(images, f"{source.title} ({part})")
        return LabelledImages(
            images=torch.from_numpy(images),
            labels=torch.tensor([label_by_name[classes[image]] for image in names_of_part]),
            class_names=names,
            name=source.title,
            part=part,
            groups=read_groups(layout, part, source.read),
            class_order=order,
            preparation=(*notes, *decoder.notes),
        )


def _map_classes(layout: Layout, read: Callable[[str], bytes]) -> Mapping[str, str]:
    """Return the class of each image of every part: its label in the table, or the name of its folder."""
    labels = read_labels(layout, read)
    if labels is not None:
        return labels
    return {image: PurePosixPath(image).parent.name for images in layout.images.values() for image in images}


def _decode_images(
    names: Sequence[str], read: Callable[[str], bytes], decoder: Decoder
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Return the images in order, n × c × h × w, uint8, and notes on conversions between them.

    Grey images beside RGB ones get three equal channels.

    Raises: DatasetInvalid for an image whose size differs from the first one's; the message names both.
    """
    first = decoder.decode(names[0], read)
    decoder.conversions.clear()
    images, grey = _allocate(len(names), first), 0
    for row, name in enumerate(names):
        image = decoder.decode(name, read)
        if image.shape[1:] != first.shape[1:]:
            raise DatasetInvalid(
                f"{name} is {_describe_size(image)}, {names[0]} is {_describe_size(first)}; all must have one size.",
                remedy="resize",
            )
        if len(image) == 3 and images.shape[1] == 1:
            earlier, images = images, _allocate(len(names), image)
            images[:row] = earlier[:row]
        grey += len(image) == 1
        images[row] = image
    if images.shape[1] == 1 or not grey:
        return images, ()
    return images, (f"{grey:,} grey images as RGB with three equal channels.",)


def _allocate(count: int, image: np.ndarray) -> np.ndarray:
    """Return uninitialised memory for that many images like this one. Raises: DatasetInvalid."""
    if image.nbytes * count > MAX_BYTES:
        raise DatasetInvalid(f"{count:,} images of {image.nbytes:,} bytes exceed {MAX_BYTES:,} bytes in memory.")
    return np.empty((count, *image.shape), np.uint8)


def _describe_size(image: np.ndarray) -> str:
    """Return the image's size and kind in words."""
    channels, height, width = image.shape
    return f"{width} × {height} {'grey' if channels == 1 else 'RGB'}"
