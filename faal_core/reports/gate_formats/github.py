"""Show the result of a gate as annotations of GitHub Actions."""

from collections.abc import Iterator

from faal_core.reports.gate_formats import words
from faal_core.reports.wording import sanitise
from faal_core.results.gates.documents import GateResult

MOST = 10  # annotations of one step that GitHub shows


def annotations(result: GateResult) -> Iterator[str]:
    """Yield a workflow command for each requirement that is not met (an error) or undecided (a warning where it passes)."""
    for one in words.violations(result)[:MOST]:
        is_error = one.status == "fail" or result.policy.undecided == "fail"
        heading = _escape(f"faal gate: {words.title(one)}").replace(":", "%3A").replace(",", "%2C")
        yield f"::{'error' if is_error else 'warning'} title={heading}::{_escape(one.sentence)}"


def _escape(text: str) -> str:
    """Return the text without line ends, so that no name begins a command of its own."""
    return sanitise(text).replace("%", "%25")
