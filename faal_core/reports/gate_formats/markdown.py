"""Show the result of a gate as Markdown for pull requests and job summaries."""

import re

from faal_core.reports.gate_formats import words
from faal_core.reports.wording import sanitise
from faal_core.results.gates.documents import GateResult, RequirementResult

MOST_ROWS = 100  # of the table; a job summary of GitHub holds 1 MiB
_MARKS = {"pass": "✅ met", "fail": "❌ not met", "undecided": "❓ undecided"}
_SIGNS = re.compile(r"[^\w\s,()%]|_", re.ASCII)
_ZERO_WIDTH_SPACE = "&#8203;"


def render(result: GateResult) -> str:
    """Return a heading, a table of the requirements, and a sentence for each that is not met or undecided."""
    unmet = words.violations(result)
    rows = [*unmet, *(one for one in result.requirements if one.status == "pass")]
    lines = [
        f"### Robustness gate: {words.conclusion(result).removeprefix('The gate ').removeprefix('is ')}",
        "",
        f"Audit: {escape(words.describe(result.audit))}",
        *([f"<br>Baseline: {escape(words.describe(result.baseline))}"] if result.baseline else []),
        "",
        "| requirement | limit | measured | interval | result |",
        "| --- | --- | --- | --- | --- |",
        *map(_row, rows[:MOST_ROWS]),
        *([f"\n… and {len(rows) - MOST_ROWS:,} more requirements."] if len(rows) > MOST_ROWS else []),
        "",
        *(f"- **{escape(words.title(one))}**: {escape(one.sentence)}" for one in unmet[:MOST_ROWS]),
    ]
    return "\n".join(lines).rstrip("\n") + "\n"


def escape(text: str) -> str:
    """Return the text so that Markdown shows it as it is: no markup, no HTML, no links, no mentions of people or issues."""
    escaped = _SIGNS.sub(lambda sign: f"&#{ord(sign[0])};" if sign[0].isascii() else sign[0], sanitise(text))
    return re.sub("(&#64;|&#35;)", rf"\1{_ZERO_WIDTH_SPACE}", escaped)


def _row(requirement: RequirementResult) -> str:
    cells = (
        escape(words.title(requirement)),
        escape(words.limit(requirement)),
        escape(words.value(requirement)),
        words.interval(requirement),
        _MARKS[requirement.status],
    )
    return f"| {' | '.join(cells)} |"
