"""faal catalog: what can be named."""

import json
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from faal_core.catalog import ArchitectureEntry


def catalog(as_json: Annotated[bool, typer.Option("--json", help="Print it as JSON.")] = False) -> None:
    """List the architectures, data sets and attack presets."""
    from faal_core import catalog as offered

    titles = {
        "architectures": {entry.name: _network(entry) for entry in offered.architectures().values()},
        "datasets": {entry.name: entry.title for entry in offered.datasets().values()},
        "presets": {entry.name: entry.title for entry in offered.PRESETS.values()},
    }
    if as_json:
        typer.echo(json.dumps(titles, indent=2, ensure_ascii=False))
        return
    width = max(len(name) for section in titles.values() for name in section)
    for what, section in titles.items():
        typer.echo("\n".join([f"{what}:", *(f"  {name:{width}}  {title}" for name, title in section.items())]))


def _network(entry: "ArchitectureEntry") -> str:
    """The network's title with the arguments it takes."""
    bounds = [f"{name} {bound.low}–{bound.high}" for name, bound in entry.arguments.items()]
    return f"{entry.title} ({', '.join(bounds)})" if bounds else entry.title
