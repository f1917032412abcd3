"""The application `faal` and its commands."""

import typer

from faal_core.cli.audit import audit
from faal_core.cli.catalog import catalog
from faal_core.cli.finetune import finetune
from faal_core.cli.keep import keep
from faal_core.cli.remedies import in_terms_of_options
from faal_core.cli.render import render

app = typer.Typer(
    help="Audit classifiers for adversarial robustness class by class, and make their weakest classes more robust.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

for command in (audit, finetune, keep, render, catalog):
    app.command()(in_terms_of_options(command))
