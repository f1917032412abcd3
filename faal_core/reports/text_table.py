"""Tables as plain text, by rich; the API image has no rich, so nothing that it imports may import this module."""

from collections.abc import Sequence
from io import StringIO

from rich.console import Console
from rich.table import Table
from rich.text import Text

from faal_core.reports.wording import sanitise

NAME_WIDTH = 28  # columns of a terminal
_UNLIMITED = 100_000  # columns, more than any table has


def text_table(
    rows: Sequence[Sequence[str]],
    *,
    numeric: bool = False,
    name_width: int | None = NAME_WIDTH,
    width: int | None = None,
) -> list[str]:
    """Return the rows as lines with aligned columns, without any control character.

    Args:
        numeric: whether all columns but the first are aligned to the right; the first is then cut to `name_width` columns.
        name_width: None does not cut it.
        width: columns of a terminal that cells are folded to; unlimited when absent.
    """
    table = Table.grid(padding=(0, 2))
    for column in range(len(rows[0])):
        table.add_column(
            justify="right" if numeric and column else "left",
            no_wrap=numeric,
            overflow="ellipsis" if numeric else "fold",
            max_width=name_width if numeric and not column else None,
        )
    for row in rows:
        table.add_row(*(Text(sanitise(cell)) for cell in row))
    written = StringIO()
    Console(file=written, width=width or _UNLIMITED, color_system=None, force_terminal=False).print(table)
    return [line.rstrip() for line in written.getvalue().rstrip("\n").split("\n")]
