"""Write rates and their differences as text."""


def percent(rate: float) -> str:
    """Return a rate in per cent: "77.4 %"."""
    return f"{100 * rate:.1f} %"


def points(change: float) -> str:
    """Return a difference of two rates in percentage points, signed: "+7.2", "−0.4"."""
    return f"{round(100 * change, 1) + 0.0:+.1f}".replace("-", "−")
