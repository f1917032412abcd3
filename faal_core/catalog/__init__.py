"""List architectures, data sets and attack presets by name, each with its source and builder.

Names are bound to builders by dotted path: our own constants, never user input. A site adds architectures and data sets
through the entry points `faal.architectures` and `faal.datasets`, which its administrator installs, and architectures through
a file of its own (`offer_networks`). They are listed without being imported.
"""

import sys
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path

from faal_core.catalog.entries import ArchitectureEntry, ArgumentRange, Augmentation, DatasetEntry, PresetEntry
from faal_core.catalog.library_names import LIBRARIES, find_newer, library_architectures
from faal_core.catalog.named_datasets import NAMED_DATASETS
from faal_core.catalog.own_architectures import OWN_ARCHITECTURES
from faal_core.catalog.site_networks import read_networks
from faal_core.errors import UnknownName

__all__ = ["LIBRARIES", "ArchitectureEntry", "ArgumentRange", "Augmentation", "DatasetEntry", "PresetEntry"]

_CROSS_ENTROPY, _MARGIN = {"type": "pgd", "loss": "cross-entropy"}, {"type": "pgd", "loss": "margin"}

PRESETS = {
    entry.name: entry
    for entry in [
        PresetEntry(
            "quick",
            "PGD-10 with the cross-entropy: the shortest first look",
            ({**_CROSS_ENTROPY, "steps": 10},),
        ),
        PresetEntry(
            "pgd-20",
            "PGD-20 with the cross-entropy (the published column), then with the margin loss: a first look, the default",
            ({**_CROSS_ENTROPY, "steps": 20}, {**_MARGIN, "steps": 20}),
        ),
        PresetEntry(
            "pgd-100",
            "PGD-100 with both losses and two restarts each: a longer first look; fast is stronger",
            ({**_CROSS_ENTROPY, "steps": 100, "restarts": 2}, {**_MARGIN, "steps": 100, "restarts": 2}),
        ),
        PresetEntry(
            "standard",
            "AutoAttack's protocol, for numbers that compare with published ones",
            (
                {"type": "apgd", "loss": "cross-entropy"},
                {"type": "apgd", "loss": "dlr", "targets": 9},
                {"type": "fab", "targets": 9},
                {"type": "square", "queries": 5000},
            ),
        ),
        PresetEntry(
            "fast",
            "Nearly AutoAttack's strength at a fraction of its cost: short runs on all, long ones where it was close",
            (
                {"type": "apgd", "loss": "cross-entropy", "iterations": 20},
                {"type": "apgd", "loss": "probability-margin", "iterations": 50},
                {"type": "apgd", "loss": "dlr", "targets": 3, "iterations": 30},
                {"type": "apgd", "loss": "dlr", "targets": 9, "iterations": 50, "margin_left": 0.35},
                {"type": "apgd", "loss": "dlr", "targets": 9, "iterations": 100, "margin_left": 0.05},
                {"type": "square", "queries": 2500, "margin_left": 0.05},
            ),
        ),
    ]
}

_PRESETS_BY_LETTERS = {
    **{name.replace("-", ""): name for name in PRESETS},
    **dict.fromkeys(("autoattack", "aa", "autoattackstandard"), "standard"),
}


_site_networks: dict[str, ArchitectureEntry] = {}


def offer_networks(path: Path | None) -> None:
    """Add the networks of a site's own file or folder to this process's catalog, in place of those added before.

    Args:
        path: of a Python file or of a folder of them, which are read and not executed; None for no networks.

    Raises: ValueError.
    """
    networks = {} if path is None else read_networks(path)
    _site_networks.clear()
    _site_networks.update(networks)


def architectures() -> dict[str, ArchitectureEntry]:
    """Return every architecture by name, including those of this site."""
    known = _built_in_architectures() | _site_networks
    for point in _read_entry_points("faal.architectures", tuple(sys.path)):
        known.setdefault(point.name, ArchitectureEntry(point.name, point.name, "installed at this site", point.value))
    return known


@cache
def _built_in_architectures() -> dict[str, ArchitectureEntry]:
    """Return the architectures that are the same at every site; cached, because there are more than a thousand."""
    return {entry.name: entry for entry in (*OWN_ARCHITECTURES, *library_architectures())}


@cache
def _read_entry_points(group: str, path: tuple[str, ...]) -> tuple[EntryPoint, ...]:
    """Return the site's entry points; cached per search path, because reading every package's metadata takes 10 ms."""
    return tuple(entry_points(group=group))


def architecture(name: str) -> ArchitectureEntry:
    """Return the architecture of that name, which an installed library newer than the list may have. Raises: UnknownName."""
    if name in _built_in_architectures():  # the usual case; the whole catalog has more than a thousand entries
        return _built_in_architectures()[name]
    known = architectures()
    entry = known.get(name) or find_newer(name)
    if entry is None:
        raise UnknownName.suggest("architecture", name, list(known))
    return entry


def datasets() -> dict[str, DatasetEntry]:
    """Return every named data set, including those installed at this site."""
    known = {entry.name: entry for entry in NAMED_DATASETS}
    for point in _read_entry_points("faal.datasets", tuple(sys.path)):
        entry = DatasetEntry(point.name, point.name, "installed at this site", point.value, 0, (0, 0, 0))
        known.setdefault(point.name, entry)
    return known


def dataset(name: str) -> DatasetEntry:
    """Return the data set of that name. Raises: UnknownName."""
    known = datasets()
    if name not in known:
        raise UnknownName.suggest("data set", name, list(known))
    return known[name]


def preset(name: str) -> PresetEntry:
    """Return the attack preset of that name; capitals, blanks and dashes do not matter. Raises: UnknownName."""
    letters = "".join(sign for sign in name.casefold() if sign.isalnum())
    if letters not in _PRESETS_BY_LETTERS:
        raise UnknownName.suggest("attack preset", name, list(PRESETS))
    return PRESETS[_PRESETS_BY_LETTERS[letters]]
