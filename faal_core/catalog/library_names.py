"""List the classifiers of torchvision and timm by name, without importing either: `scripts/write_names.py` writes the names."""

import json
import re
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from faal_core.catalog.entries import ArchitectureEntry

LIBRARIES = ("torchvision", "timm")
_SOURCES = {"torchvision": "torchvision, BSD-3-Clause", "timm": "timm, Apache-2.0; needs the extra `timm`"}
_NAMES = Path(__file__).with_name("library_names.json")
_NAME = re.compile(r"[a-z0-9_]+")  # no pretrained tags, and none of timm's prefixes for files and downloads


def library_architectures() -> list[ArchitectureEntry]:
    """Return the classifiers of both libraries, in the versions whose names were written."""
    names = _read_names()
    return [_describe(library, name) for library in LIBRARIES for name in names[library]["names"]]


def find_newer(name: str) -> ArchitectureEntry | None:
    """Return the entry of a classifier that only a newer library may have; None where the installed one is not newer.

    The network is looked up when it is built, because only then the library is imported.
    """
    library, _, variant = name.partition("/")
    if library not in LIBRARIES or not _NAME.fullmatch(variant):
        return None
    try:
        installed = version(library)
    except PackageNotFoundError:
        return None
    is_newer = _parse_version(installed) > _parse_version(_read_names()[library]["version"])
    return _describe(library, variant) if is_newer else None


def _describe(library: str, name: str) -> ArchitectureEntry:
    """Return the entry of a classifier of that library."""
    builder = f"faal_core.networks.third_party:{library}_classifier"
    return ArchitectureEntry(f"{library}/{name}", f"{library}'s {name}", _SOURCES[library], builder, variant=name)


@cache
def _read_names() -> dict[str, dict[str, Any]]:
    """Return by library the version whose names were written, and the names."""
    names: dict[str, dict[str, Any]] = json.loads(_NAMES.read_text("utf-8"))
    return names


def _parse_version(text: str) -> list[int]:
    """Return the numbers of a version, without what follows a plus."""
    return [int(part) for part in re.findall(r"\d+", text.partition("+")[0])]
