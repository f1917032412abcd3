"""Tables on standard output: folded to a terminal's width, and as wide as they are elsewhere."""

import shutil
import sys
from collections.abc import Sequence

import typer


def print_table(rows: Sequence[Sequence[str]]) -> None:
    """Print the rows as aligned columns; in a terminal the text of a cell is folded to fit."""
    from faal_core.reports.text_table import text_table

    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    typer.echo("\n".join(text_table(rows, width=width)))
