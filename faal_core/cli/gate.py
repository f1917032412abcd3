"""faal gate: whether a report meets the requirements of a policy."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from faal_core.cli import gate_options as options
from faal_core.cli.results import GATE_FAILED, GATE_UNDECIDED
from faal_core.cli.specs import build_spec
from faal_core.errors import InvalidSpec

if TYPE_CHECKING:
    from faal_core.results.gates.documents import GateResult


def gate(
    context: typer.Context,
    report: options.Report,
    *,
    policy: options.PolicyFile = None,
    min_worst: options.MinWorst = None,
    min_robust: options.MinRobust = None,
    min_clean: options.MinClean = None,
    max_gap: options.MaxGap = None,
    min_class: options.MinClass = None,
    min_group: options.MinGroup = None,
    baseline_report: options.Baseline = None,
    tolerance: options.Tolerance = None,
    confidence: options.Confidence = None,
    undecided: options.Undecided = None,
    as_json: options.AsJson = False,
    junit: options.Junit = None,
    sarif: options.Sarif = None,
    markdown: options.Markdown = None,
) -> int:
    """Check whether a report meets requirements; exit with status 0 if it passes, 3 if it fails, 6 if it is undecided."""
    from faal_core.results.gates.judging import judge_audit
    from faal_core.results.gates.pairing import pair_audits, separate
    from faal_core.results.reading import find_report, read_audit, read_report_file
    from faal_core.specs import Policy

    limits: dict[str, object] = {
        "min_worst": min_worst,
        "min_robust": min_robust,
        "min_clean": min_clean,
        "max_gap": max_gap,
        "min_class": _named_rates(min_class, "--min-class"),
        "min_group": _named_rates(min_group, "--min-group"),
        "confidence": confidence,
        "undecided": undecided,
    }
    if baseline_report or tolerance is not None:
        limits["baseline"] = {"tolerance": tolerance}
    checked = build_spec(context, Policy, policy, limits, read=_read_policy)
    audit, paired = separate(read_report_file(report))
    if baseline_report:
        paired = pair_audits(read_audit(baseline_report), read_audit(report))
    result = judge_audit(checked, audit, paired)
    _write_files(result, find_report(report), junit=junit, sarif=sarif, markdown=markdown)
    _print(result, as_json=as_json)
    return 0 if result.passed else GATE_FAILED if result.status == "fail" else GATE_UNDECIDED


def _read_policy(file: Path) -> dict[str, Any]:
    """Return the fields of a policy. Raises: typer.BadParameter."""
    from faal_core.specs.policy_file import read_policy_document

    try:
        return read_policy_document(file)
    except InvalidSpec as error:
        raise typer.BadParameter(error.message.rstrip("."), param_hint="--policy") from None


def _named_rates(texts: Sequence[str] | None, option: str) -> Mapping[str, str] | None:
    """Return the rates by name; a name may have the sign =, too. Raises: typer.BadParameter."""
    pairs = [text.rpartition("=") for text in texts or ()]
    if any(not name for name, _, _ in pairs):
        raise typer.BadParameter("write a name and a rate, such as cat=0.4", param_hint=option)
    rates: dict[str, str] = {}
    for name, _, rate in pairs:
        if name in rates:
            raise typer.BadParameter(f"{name!r} is named twice", param_hint=option)
        rates[name] = rate
    return rates or None


def _write_files(
    result: "GateResult", report: Path, *, junit: Path | None, sarif: Path | None, markdown: Path | None
) -> None:
    """Write the result in each format that has a file, and into the summary of a job of GitHub Actions."""
    from faal_core.reports.gate_formats import junit as junit_format
    from faal_core.reports.gate_formats import markdown as markdown_format
    from faal_core.reports.gate_formats import sarif as sarif_format

    if junit:
        junit.write_text(junit_format.render(result), "utf-8")
    if sarif:
        sarif.write_text(sarif_format.render(result, report), "utf-8")
    if markdown:
        markdown.write_text(markdown_format.render(result), "utf-8")
    if os.environ.get("GITHUB_ACTIONS") == "true" and (summary := os.environ.get("GITHUB_STEP_SUMMARY")):
        with Path(summary).open("a", encoding="utf-8") as file:
            file.write(markdown_format.render(result))


def _print(result: "GateResult", *, as_json: bool) -> None:
    """Print the result, and annotations on standard error, where GitHub Actions reads them, too."""
    from faal_core.reports.gate_formats import github, text

    typer.echo(result.model_dump_json(indent=2) if as_json else text.render(result))
    if os.environ.get("GITHUB_ACTIONS") == "true":
        for annotation in github.annotations(result):
            typer.echo(annotation, err=True)
