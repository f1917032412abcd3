"""The options about images and classes, and what they become: a loader of images, and a classifier's class names."""

import json
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import typer

from faal_core.cli.specs import check_options, numbers

if TYPE_CHECKING:
    from faal_core.classifier import Classifier
    from faal_core.datasets import LabelledImages, Part

_LARGEST_SIDE = 2048
_LARGE_BYTES = 2**30  # of decoded images: fewer fit into memory beside a network, and are soon decoded again
_SHOWN = 200  # characters, at most, of a value in a message


def image_loader(
    dataset: str,
    root: Path,
    *,
    download: bool,
    class_order: Literal["natural", "string"] | None,
    resize: str | None,
    crop: int | None,
    class_groups: Path | None = None,
    cache: Path | None = None,
    ledger: Path | None = None,
) -> "Callable[[Part], LabelledImages]":
    """Return the function that loads a part of the data set and shows the progress of decoding.

    Args:
        ledger: the folder around it holds large decoded images, unless `cache` names another.

    Raises: typer.BadParameter for options that make no sense.
    """
    from faal_core.datasets import ImageCache, Reading, Resizing

    sides = tuple(int(side) if side.strip().isdecimal() else 0 for side in numbers(resize) or ())
    if len(sides) > 2 or any(not 1 <= side <= _LARGEST_SIDE for side in sides):
        raise typer.BadParameter(
            f"{resize!r} is no size: write one number for the shorter side or height,width, up to {_LARGEST_SIDE}",
            param_hint="--resize",
        )
    if download and "LOCAL_RANK" in os.environ:
        raise typer.BadParameter(
            "several processes would write into one folder: let one download first", param_hint="--download"
        )
    reading = Reading(Resizing(sides, () if crop is None else (crop, crop)), class_order)
    image_cache = ImageCache(cache) if cache else ImageCache(_default_cache(ledger), _LARGE_BYTES)
    options: dict[str, Any] = {"root": root, "download": download, "reading": reading, "class_groups": class_groups}
    return partial(_load, dataset, cache=image_cache, **options)


def _load(dataset: str, part: "Part", **options: Any) -> "LabelledImages":  # noqa: ANN401 - those of `datasets.load`
    """Return the part, and show the progress of decoding."""
    from faal_core.datasets import load
    from faal_core.reports.progress_bar import ProgressBar

    with ProgressBar() as progress:
        return load(dataset, part, progress=progress, **options)


def _default_cache(ledger: Path | None) -> Path:
    """Return the folder for decoded images where no option names one: beside the ledger, or the user's."""
    if ledger:
        return ledger.parent / "image-cache"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser()) / "faal"


def name_classes(context: typer.Context, classifier: "Classifier", text: str | None) -> None:
    """Give the classifier the class names of `--class-names`, if any, in place of those in its file.

    Raises: typer.BadParameter for a text that is no list; typer.Exit(2) for names that the classifier cannot have.
    """
    from faal_core.specs import ClassifierSpec

    if text is None:
        return
    options = {"class_names": _names(text)}
    classifier.spec = check_options(context, ClassifierSpec, classifier.spec.model_dump(), options)


def _names(text: str) -> list[str]:
    """Return the names in that list or file; a text with commas that is also a file's path is the file's."""
    if text.lstrip().startswith("["):
        return _names_in_json(text)
    if "," in text and not _is_file(text):
        return [name.strip() for name in text.split(",")]
    try:
        lines = Path(text).read_text("utf-8-sig").splitlines()
    except (OSError, ValueError) as error:
        raise typer.BadParameter(
            f"{text[:_SHOWN]!r} is neither a list with commas nor a file that can be read: {str(error)[:_SHOWN]}",
            param_hint="--class-names",
        ) from None
    return [line.strip() for line in lines if line.strip()]


def _names_in_json(text: str) -> list[str]:
    """Return the names in a JSON list of strings or numbers."""
    try:
        names = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise typer.BadParameter(f"not JSON: {error}", param_hint="--class-names") from None
    if odd := [name for name in names if not isinstance(name, str | int) or isinstance(name, bool)]:
        raise typer.BadParameter(
            f"the list holds {str(odd[0])[:_SHOWN]!r}; each name is a string or a whole number",
            param_hint="--class-names",
        )
    return [str(name) for name in names]


def _is_file(text: str) -> bool:
    """Return whether the text is a file's path; a list of names can be too long for one."""
    try:
        return Path(text).is_file()
    except (OSError, ValueError):
        return False
