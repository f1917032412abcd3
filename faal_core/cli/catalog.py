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
    search: Annotated[
        str | None, typer.Argument(help="List the names that contain this text, such as resnet or timm/vit.")
    ] = None,
    data_root: input_options.DataRoot = input_options.DATA_ROOT,
    as_json: Annotated[bool, typer.Option("--json", help="Print the lists as JSON.")] = False,
) -> None:
    """List the architectures, data sets and attack presets, and which files of data sets are missing.

    Without a text to search for, the networks of a library are listed as one line; --json lists all.
    """
    from faal_core import catalog as offered

    titles = {
        "architectures": {entry.name: _network(entry) for entry in offered.architectures().values()},
        "datasets": {entry.name: _images(entry, data_root) for entry in offered.datasets().values()},
        "presets": {entry.name: entry.title for entry in offered.PRESETS.values()},
    }
    if search is not None:
        titles = {kind: _search(entries, search) for kind, entries in titles.items()}
    elif not as_json:
        titles["architectures"] = _count_libraries(titles["architectures"])
    if as_json:
        typer.echo(json.dumps(titles, indent=2, ensure_ascii=False))
        return
    rows = []
    for kind, entries in titles.items():
        if entries:
            rows += [[f"{kind}:", ""], *([f"  {name}", title] for name, title in entries.items())]
    if not rows:
        raise typer.BadParameter(f"no name contains {search!r}", param_hint="SEARCH")
    print_table(rows)


def _search(titles: dict[str, str], text: str) -> dict[str, str]:
    """Return the entries whose names contain the text, in either case."""
    return {name: title for name, title in titles.items() if text.casefold() in name.casefold()}


def _count_libraries(titles: dict[str, str]) -> dict[str, str]:
    """Return the titles with one line for each of the catalog's libraries, which have many networks."""
    from faal_core.catalog import LIBRARIES

    few = {name: title for name, title in titles.items() if name.partition("/")[0] not in LIBRARIES}
    for library in LIBRARIES:
        count = len(_search(titles, f"{library}/"))
        few[f"{library}/…"] = f"{count:,} networks of {library}; faal catalog {library}/ lists them"
    return few


def _images(entry: "DatasetEntry", root: Path) -> str:
    """Return the data set's title with the files that the folder lacks."""
    absent = dataset_files.list_missing(entry.name, root)
    return f"{entry.title} (not in {root}: {', '.join(absent)})" if absent else entry.title


def _network(entry: "ArchitectureEntry") -> str:
    """Return the network's title with the arguments it takes."""
    bounds = [f"{name} {bound.low}–{bound.high}" for name, bound in entry.arguments.items()]
    return f"{entry.title} ({', '.join(bounds)})" if bounds else entry.title
