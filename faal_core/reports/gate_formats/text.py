"""Show the result of a gate as text for a terminal."""

from faal_core.reports.gate_formats import words
from faal_core.reports.wording import sanitise
from faal_core.results.gates.documents import GateResult


def render(result: GateResult) -> str:
    """Return the conclusion, the audits, and a line for each requirement, without control characters."""
    lines = [words.conclusion(result), f"Audit: {words.describe(result.audit)}"]
    if result.baseline:
        lines.append(f"Baseline: {words.describe(result.baseline)}")
    lines += [
        f"{one.status.upper():9}  {words.title(one)} {sanitise(words.limit(one))}. {sanitise(one.sentence)}"
        for one in [*words.violations(result), *(one for one in result.requirements if one.status == "pass")]
    ]
    return "\n".join(lines)
