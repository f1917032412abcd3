"""The application `faal` and its commands."""

from typing import Annotated

import typer

from faal_core import __version__
from faal_core.cli import export
from faal_core.cli.audit import audit
from faal_core.cli.catalog import catalog
from faal_core.cli.compare import compare
from faal_core.cli.create_key import create_key
from faal_core.cli.fields import fields
from faal_core.cli.finetune import finetune
from faal_core.cli.gate import gate
from faal_core.cli.keep import keep
from faal_core.cli.pack import pack
from faal_core.cli.remedies import in_terms_of_options
from faal_core.cli.render import render
from faal_core.cli.sign import sign
from faal_core.cli.verify import verify

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode="rich")


def _print_version(requested: bool) -> None:
    if requested:
        typer.echo(f"faal {__version__}")
        raise typer.Exit


@app.callback()
def faal(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Audit classifiers for adversarial robustness class by class, and make their weakest classes more robust."""


for command in (audit, finetune, compare, gate, pack, verify, sign, create_key, keep, render, catalog, fields):
    app.command()(in_terms_of_options(command))
app.add_typer(export.app, name="export")
