"""faal catalog: what can be named."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from faal_core.catalog import dataset_files
from faal_core.cli import options

if TYPE_CHECKING:
    from faal_core.catalog import ArchitectureEntry, DatasetEntry


def catalog(
    data_root: options.DataRoot = options.DATA_ROOT,
    as_json: Annotated[bool, typer.Option("--json", help="Print it as JSON.")] = False,
) -> None:
    """List the architectures, data sets and attack presets, and which files of data sets are missing."""
    from faal_core import catalog as offered

    titles = {
        "architectures": {entry.name: _network(entry) for entry in offered.architectures().values()},
        "datasets": {entry.name: _images(entry, data_root) for entry in offered.datasets().values()},
        "presets": {entry.name: entry.title for entry in offered.PRESETS.values()},
    }
    if as_json:
        typer.echo(json.dumps(titles, indent=2, ensure_ascii=False))
        return
    width = max(len(name) for section in titles.values() for name in section)
    for what, section in titles.items():
        typer.echo("\n".join([f"{what}:", *(f"  {name:{width}}  {title}" for name, title in section.items())]))


def _images(entry: "DatasetEntry", root: Path) -> str:
    """Return the data set's title with the files that the folder lacks."""
    absent = dataset_files.missing(entry.name, root)
    return f"{entry.title} (not in {root}: {', '.join(absent)})" if absent else entry.title


def _network(entry: "ArchitectureEntry") -> str:
    """The network's title with the arguments it takes."""
    bounds = [f"{name} {bound.low}–{bound.high}" for name, bound in entry.arguments.items()]
    return f"{entry.title} ({', '.join(bounds)})" if bounds else entry.title
