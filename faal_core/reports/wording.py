"""Write rates, changes, times and names for reports.

Class names are untrusted: `sanitise` removes characters that could move the cursor or reverse the direction of a line.
"""

import math
from collections import Counter
from collections.abc import Sequence

from faal_core.results.documents import ClassRow, Interval, Rate
from faal_core.results.rate_text import percent, points


def sanitise(name: str) -> str:
    """Return the name with white space as blanks and every other unprintable character as U+FFFD."""
    return "".join(c if c.isprintable() else " " if c.isspace() else "\ufffd" for c in name)


def write_name(name: str, kind: str = "class") -> str:
    """Return the name as a sentence shows it; a name without letters could be read as a number, so it becomes: class "0"."""
    clean = sanitise(name)
    return clean if any(c.isalpha() for c in clean) else f'{kind} "{clean}"'


def distinguish(names: Sequence[str]) -> list[str]:
    """Return the sanitised names; equal ones get their label, so that no two classes look the same."""
    clean = [sanitise(name) for name in names]
    repeated = {name for name, count in Counter(clean).items() if count > 1}
    return [f"{name} [{c}]" if name in repeated else name for c, name in enumerate(clean)]


def bounds(estimate: Rate | Interval) -> str:
    """Return the interval of a rate, in per cent: "32.1–44.2"."""
    return f"{100 * estimate.low:.1f}–{100 * estimate.high:.1f}"


def with_bounds(estimate: Rate | Interval) -> str:
    """Return a rate with its interval: "38.0 % (32.1–44.2)"."""
    return f"{percent(estimate.rate if isinstance(estimate, Rate) else estimate.value)} ({bounds(estimate)})"


def change_bounds(change: Interval) -> str:
    """Return the interval of a change, in points: "+2.1 to +12.3"."""
    return f"{points(change.low)} to {points(change.high)}"


def change_with_bounds(change: Interval) -> str:
    """Return a change with its interval: "+7.2 points (+2.1 to +12.3)"."""
    return f"{points(change.value)} points ({change_bounds(change)})"


def p_value(p: float) -> str:
    """Return a p-value to three places: "0.012", "< 0.001"."""
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def count(images: int | None) -> str:
    """Return a number of images, or a dash where there is none."""
    return "–" if images is None else f"{images:,}"


def time_left(seconds: float) -> str:
    """Return the largest remaining time: "at most 50 s left", "at most 12 min left", "at most 3 h 5 min left"."""
    if seconds < 60:
        return f"at most {math.ceil(seconds)} s left"
    hours, minutes = divmod(math.ceil(seconds / 60), 60)
    return f"at most {f'{hours} h {minutes}' if hours else minutes} min left"


def worst_first(rows: Sequence[ClassRow]) -> list[int]:
    """Return the row numbers of the classes or groups, lowest robust accuracy first; ties keep their order."""
    return sorted(range(len(rows)), key=lambda row: rows[row].robust.rate)
