"""Show the result of a gate in a notebook, as HTML without a script."""

from html import escape

from faal_core.reports.gate_formats import words
from faal_core.reports.wording import sanitise
from faal_core.results.gates.documents import GateResult, RequirementResult

_HEADINGS = ("requirement", "limit", "measured", "interval", "result", "")
_RESULTS = {"pass": "met", "fail": "not met", "undecided": "undecided"}


def render(result: GateResult) -> str:
    """Return the conclusion, the audits, and a table of the requirements, those that are not met first."""
    audits = [f"Audit: {words.describe(result.audit)}"]
    if result.baseline:
        audits.append(f"Baseline: {words.describe(result.baseline)}")
    rows = [*words.violations(result), *(one for one in result.requirements if one.status == "pass")]
    return (
        f"<p><b>{escape(words.conclusion(result))}</b></p><p>{'<br>'.join(map(escape, audits))}</p>"
        f"<table><thead>{_row(_HEADINGS, 'th')}</thead><tbody>{''.join(map(_requirement, rows))}</tbody></table>"
    )


def _requirement(requirement: RequirementResult) -> str:
    return _row(
        (
            words.title(requirement),
            words.limit(requirement),
            words.value(requirement),
            words.interval(requirement),
            _RESULTS[requirement.status],
            sanitise(requirement.sentence),
        ),
        "td",
    )


def _row(cells: tuple[str, ...], tag: str) -> str:
    return f"<tr>{''.join(f'<{tag}>{escape(cell)}</{tag}>' for cell in cells)}</tr>"
