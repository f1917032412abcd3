"""Write text of reports into Markdown: class names are untrusted, so every sign with a meaning there is escaped."""

import re
from collections.abc import Sequence

from faal_core.reports.wording import sanitise

_SIGNS = re.compile(r"([\\`*_\[\]<>|~$&#{}!])")


def escape(text: str) -> str:
    """Return the text in one line, with a backslash before each sign that Markdown or HTML would interpret."""
    return _SIGNS.sub(r"\\\1", sanitise(text))


def write_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table of escaped cells; columns whose first cell begins with a number are aligned to the right."""
    marks = ["---:" if rows and re.match(r"[+−<]? ?\d", rows[0][column]) else "---" for column in range(len(head))]
    lines = [list(map(escape, head)), marks, *(list(map(escape, row)) for row in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
