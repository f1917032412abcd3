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

GATE_FAILED = 3
KEPT_ORIGINAL = 4
MADE_WORSE = 5
GATE_UNDECIDED = 6


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
    """Check the worst class against a required rate, by a gate with this requirement alone.

    Raises: typer.Exit(3) where the gate fails or is undecided.
    """
    from faal_core.reports.text import sanitise
    from faal_core.results.gates.judging import judge_audit
    from faal_core.specs import Policy

    if required is None:
        return
    (worst,) = judge_audit(Policy(min_worst=required, confidence=report.spec.confidence), report).requirements
    if worst.status != "pass":
        typer.echo(f"--require-worst {required:g} is not met. {sanitise(worst.sentence)}", err=True)
        raise typer.Exit(GATE_FAILED)
