"""faal catalog: list the names that options take."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from faal_core.catalog import dataset_files
from faal_core.cli import input_options
from faal_core.cli.printing import print_table

if TYPE_CHECKING:
    from faal_core.catalog import ArchitectureEntry, DatasetEntry


def catalog(
    data_root: input_options.DataRoot = input_options.DATA_ROOT,
    as_json: Annotated[bool, typer.Option("--json", help="Print the lists as JSON.")] = False,
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
    rows = []
    for kind, entries in titles.items():
        rows += [[f"{kind}:", ""], *([f"  {name}", title] for name, title in entries.items())]
    print_table(rows)


def _images(entry: "DatasetEntry", root: Path) -> str:
    """Return the data set's title with the files that the folder lacks."""
    absent = dataset_files.list_missing(entry.name, root)
    return f"{entry.title} (not in {root}: {', '.join(absent)})" if absent else entry.title


def _network(entry: "ArchitectureEntry") -> str:
    """Return the network's title with the arguments it takes."""
    bounds = [f"{name} {bound.low}–{bound.high}" for name, bound in entry.arguments.items()]
    return f"{entry.title} ({', '.join(bounds)})" if bounds else entry.title
