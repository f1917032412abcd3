"""Image files with labels, in a folder or a .zip.

A class is a folder's name, or the label in a table labels.csv. A table groups.csv may assign images to groups. `folder_layout`
finds the files, `image_file` decodes them, `class_order` sorts the classes.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import torch

from faal_core.archives import MAX_BYTES
from faal_core.datasets import image_source
from faal_core.datasets.class_groups import add_class_groups
from faal_core.datasets.class_order import NameOrder, order_names
from faal_core.datasets.folder_layout import Layout, derive_layout
from faal_core.datasets.image_cache import MAX_CACHED_BYTES, ImageCache
from faal_core.datasets.image_decoding import EncodedImages, decode_images
from faal_core.datasets.image_file import Resizing
from faal_core.datasets.image_tables import find_class_groups, read_groups, read_labels
from faal_core.datasets.labelled_images import LabelledImages, Part
from faal_core.datasets.names import require_names
from faal_core.datasets.pixel_range import require_levels
from faal_core.errors import DatasetInvalid
from faal_core.progress import NoProgress, Progress
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


def load(
    path: Path, part: Part, reading: Reading, cache: ImageCache | None = None, progress: Progress | None = None
) -> LabelledImages:
    """Return one part of the folder or archive, decoded in memory or into the cache.

    Raises: DatasetInvalid where the data set or one of its images breaks a rule.
    """
    with image_source.open_source(path, max_bytes=MAX_CACHED_BYTES if cache else MAX_BYTES) as source:
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
        names_of_part = layout.images[part]
        encoded = EncodedImages(
            title=f"{source.title} ({part})",
            count=len(names_of_part),
            iterate=lambda: ((name, source.read(name)) for name in names_of_part),
            stamp=lambda: source.stamp(names_of_part),
        )
        array = decode_images(encoded, reading.resizing, cache, progress or NoProgress())
        require_levels(array, encoded.title)
        data = LabelledImages(
            images=array.images,
            labels=torch.tensor([label_by_name[classes[image]] for image in names_of_part]),
            class_names=names,
            name=source.title,
            part=part,
            groups=read_groups(layout, part, source.read),
            class_order=order,
            preparation=array.notes,
            mapping=array.mapping,
        )
        class_groups = find_class_groups(layout, part, source.read)
        return add_class_groups(data, class_groups) if class_groups else data


def _map_classes(layout: Layout, read: Callable[[str], bytes]) -> Mapping[str, str]:
    """Return the class of each image of every part: its label in the table, or the name of its folder."""
    labels = read_labels(layout, read)
    if labels is not None:
        return labels
    return {image: PurePosixPath(image).parent.name for images in layout.images.values() for image in images}
