"""Reports and tables in a notebook."""

from html import escape

from jinja2 import Environment

from faal_core.reports import html
from faal_core.results.frames import Columns
from faal_core.results.reading import Report

_HEIGHT = 640  # pixels of a report in a notebook; it scrolls
_TABLE = Environment(autoescape=True).from_string(
    "<table><thead><tr>{% for name in columns %}<th>{{ name }}</th>{% endfor %}</tr></thead><tbody>"
    "{% for row in rows %}<tr>{% for cell in row %}<td>{{ '%.4g' % cell if cell is float else cell }}</td>{% endfor %}</tr>"
    "{% endfor %}</tbody></table>"
)


def render(report: Report) -> str:
    """Return the report's page in a frame of its own, so that neither its style nor the notebook's reaches the other."""
    return (
        f'<iframe srcdoc="{escape(html.render(report))}" style="width: 100%; height: {_HEIGHT}px; border: 0"></iframe>'
    )


def render_table(columns: Columns) -> str:
    """Return the columns as an HTML table."""
    return _TABLE.render(columns=list(columns), rows=zip(*columns.values(), strict=True))
