"""Split a table into cells: columns are separated by commas, semicolons or tabs."""

import csv
import io
from collections.abc import Iterator, Sequence

_DELIMITERS = ",;\t"


def split_lines(text: str, key_names: Sequence[str]) -> Iterator[list[str]]:
    """Yield the table's rows as cells, without blank rows.

    The delimiter is the first with which the first line contains a column with one of the names `key_names`.
    """
    first = text.partition("\n")[0]
    delimiter = next((sign for sign in _DELIMITERS if _has_key_column(first.split(sign), key_names)), ",")
    return (line for line in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True) if line)


def _has_key_column(cells: Sequence[str], key_names: Sequence[str]) -> bool:
    """Return whether one of the cells is one of the names."""
    return any(cell.strip().strip('"').casefold() in key_names for cell in cells)
