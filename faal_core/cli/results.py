"""The results of a command: the report's files, its summary, and the exit status."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryFile
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from faal_core.results.documents import AuditReport
    from faal_core.results.finetune_documents import FinetuneReport
    from faal_core.results.outcomes import Outcomes
    from faal_core.results.reading import Report

GATE_CLOSED = 3
OVERSTATED = frozenset(
    {
        "random-output",
        "batch-dependent",
        "softmax-output",
        "zero-gradient",
        "nan-gradient",
        "saturated-logits",
        "unbounded-attack-fails",
        "larger-radius-breaks-fewer",
        "more-steps-break-fewer",
        "square-beats-gradients",
        "training-images",
    }
)
"""Codes of warnings that the accuracies under attack may be far too high: a gate does not open on such numbers."""
KEPT_ORIGINAL = 4
MADE_WORSE = 5


def exit_status(report: "FinetuneReport") -> int:
    """Return the status of a fine-tuning that ended, by its outcome."""
    return {"kept-original": KEPT_ORIGINAL, "worse": MADE_WORSE}.get(report.outcome, 0)


@contextmanager
def output_folder(out: Path, *within: Path) -> Iterator[None]:
    """Provide the folder for results; one that is made here and empty at the end is removed again.

    Args:
        within: folders in it that are removed too when they are empty.
    Raises: OSError at once, before anything was computed, where no file can be written into it.
    """
    missing = [folder for folder in (out, *out.parents) if not folder.exists()]
    out.mkdir(parents=True, exist_ok=True)
    try:
        with TemporaryFile(dir=out):
            pass
        yield
    finally:
        for folder in (*within, *missing):
            with suppress(OSError):  # not empty, or not there
                folder.rmdir()


def write_report(report: "Report", out: Path, *outcomes: "Outcomes", as_json: bool) -> None:
    """Write the report's files; print the report as JSON, or its warnings, summary and classes."""
    from faal_core.reports import files, terminal

    document = files.save(report, out, *outcomes)
    typer.echo(document if as_json else f"{terminal.summary(report)}\n\nWritten to {out}")


def print_report(report: "Report", *, as_json: bool) -> None:
    """Print the report as JSON, or its summary."""
    from faal_core.reports import terminal

    typer.echo(report.model_dump_json(indent=2) if as_json else terminal.summary(report))


def require_worst_class(report: "AuditReport", required: float | None) -> None:
    """Check the worst class against a required rate.

    Raises: typer.Exit(3) where its lower bound is below `required`, the audit is incomplete, or a warning of the report says that
        the rate may be far too high.
    """
    from faal_core.reports.text import percent

    if required is None:
        return
    if not report.complete:
        typer.echo(
            f"The audit is incomplete, so --require-worst {required:g} is not met. Run the audit to its end.", err=True
        )
        raise typer.Exit(GATE_CLOSED)
    if doubts := [warning for warning in report.warnings if warning.code in OVERSTATED]:
        listed = "; ".join(f"{warning.code}: {warning.message}" for warning in doubts)
        typer.echo(f"The rates may be far too high, so --require-worst {required:g} is not met. {listed}", err=True)
        raise typer.Exit(GATE_CLOSED)
    if report.robust.worst.low < required:
        low = percent(report.robust.worst.low)
        typer.echo(f"The worst class may be as low as {low}, so --require-worst {required:g} is not met.", err=True)
        raise typer.Exit(GATE_CLOSED)
