"""faal render: write a report's page from its JSON."""

from pathlib import Path
from typing import Annotated

import typer

from faal_core.cli.specs import refuse


def render(
    report: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="The report.json to turn into a page.")],
    output: Annotated[Path, typer.Option("--output", "-o", dir_okay=False, help="The HTML file to write.")] = Path(
        "report.html"
    ),
) -> None:
    """Write the HTML page of a report.json."""
    from pydantic import ValidationError

    from faal_core.reports import html
    from faal_core.results.reading import read_any_report

    try:
        document = read_any_report(report.read_bytes())
    except ValidationError as error:
        typer.echo(f"{report} is not a report that faal has written. Name a report.json.", err=True)
        raise refuse(error) from None
    output.write_text(html.render(document), "utf-8")
    typer.echo(f"Written to {output}")
