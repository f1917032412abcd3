"""faal compare: tell two audits apart by tests, or list several by their intervals."""

from pathlib import Path
from typing import Annotated

import typer

from faal_core.cli import options
from faal_core.cli.results import MADE_WORSE, output_folder, print_report, write_report

Reports = Annotated[
    list[Path],
    typer.Argument(
        exists=True,
        help="The report.json of each audit, or its folder. Of a fine-tuning, the audit of the new weights is compared.",
        show_default=False,
    ),
]


def compare(
    context: typer.Context,
    reports: Reports,
    *,
    out: Annotated[
        Path | None,
        typer.Option(file_okay=False, metavar="DIR", help="Write report.json and report.html into this folder."),
    ] = None,
    fail_if_worse: Annotated[
        bool,
        typer.Option(
            "--fail-if-worse",
            help=f"Exit with status {MADE_WORSE} if an accuracy of the second audit is significantly lower.",
        ),
    ] = False,
    as_json: options.AsJson = False,
) -> None:
    """Compare two audits class by class, or list more of them in a table. No model runs.

    Audits of the same images are compared image by image, and audits of different images by their counts.
    """
    from faal_core.results.audit_comparison import compare_audits, tabulate_audits
    from faal_core.results.reading import read_audit

    if len(reports) < 2:
        raise typer.BadParameter("name at least two reports", param_hint="REPORTS")
    if fail_if_worse and len(reports) > 2:
        raise typer.BadParameter("needs exactly two reports", param_hint="--fail-if-worse")
    audits = [read_audit(path) for path in reports]
    document = compare_audits(*audits) if len(audits) == 2 else tabulate_audits([one.report for one in audits])
    if out:
        context.with_resource(output_folder(out))
        write_report(document, out, as_json=as_json)
    else:
        print_report(document, as_json=as_json)
    if fail_if_worse and document.kind == "comparison" and document.falls:
        raise typer.Exit(MADE_WORSE)
