"""How rates, changes, times and names are written in reports.

Class names come from strangers: `shown` takes out what could move the cursor or turn the direction of the line.
"""

import math
from collections import Counter
from collections.abc import Sequence

from faal_core.results.documents import ClassRow, Interval, Rate


def shown(name: str) -> str:
    """The name with white space as blanks and every other unprintable character as U+FFFD."""
    return "".join(c if c.isprintable() else " " if c.isspace() else "\ufffd" for c in name)


def named(name: str, kind: str = "class") -> str:
    """The name as it is shown in a sentence; one without a letter could be read as a number: class "0"."""
    clean = shown(name)
    return clean if any(c.isalpha() for c in clean) else f'{kind} "{clean}"'


def distinct(names: Sequence[str]) -> list[str]:
    """Return the names as they are shown, a repeated one with its label, so that no two classes look like one."""
    clean = [shown(name) for name in names]
    repeated = {name for name, count in Counter(clean).items() if count > 1}
    return [f"{name} [{c}]" if name in repeated else name for c, name in enumerate(clean)]


def percent(rate: float) -> str:
    """A rate as people write it: "77.4 %"."""
    return f"{100 * rate:.1f} %"


def points(change: float) -> str:
    """A difference of two rates in percentage points, signed: "+7.2", "−0.4"."""
    return f"{round(100 * change, 1) + 0.0:+.1f}".replace("-", "−")


def bounds(estimate: Rate | Interval) -> str:
    """The interval of a rate, in per cent: "32.1–44.2"."""
    return f"{100 * estimate.low:.1f}–{100 * estimate.high:.1f}"


def with_bounds(estimate: Rate | Interval) -> str:
    """A rate with its interval: "38.0 % (32.1–44.2)"."""
    return f"{percent(estimate.rate if isinstance(estimate, Rate) else estimate.value)} ({bounds(estimate)})"


def change_bounds(change: Interval) -> str:
    """The interval of a change, in points: "+2.1 to +12.3"."""
    return f"{points(change.low)} to {points(change.high)}"


def change_with_bounds(change: Interval) -> str:
    """A change with its interval: "+7.2 points (+2.1 to +12.3)"."""
    return f"{points(change.value)} points ({change_bounds(change)})"


def p_value(p: float) -> str:
    """A p-value to three places: "0.012", "< 0.001"."""
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def time_left(seconds: float) -> str:
    """How long the rest takes at most: "at most 50 s left", "at most 12 min left", "at most 3 h 5 min left"."""
    if seconds < 60:
        return f"at most {math.ceil(seconds)} s left"
    hours, minutes = divmod(math.ceil(seconds / 60), 60)
    return f"at most {f'{hours} h {minutes}' if hours else minutes} min left"


def worst_first(rows: Sequence[ClassRow]) -> list[int]:
    """The places of those classes or groups, lowest robust accuracy first; ties stay in their order."""
    return sorted(range(len(rows)), key=lambda row: rows[row].robust.rate)
