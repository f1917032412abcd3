"""Compare a document with the one that was computed again."""

import math
from collections.abc import Iterator

_TOLERANCE = 1e-12  # of rates and bounds: versions of SciPy may round the last digits differently


def list_differences(expected: object, actual: object, path: str) -> Iterator[str]:
    """Yield the paths at which two documents differ; numbers may differ by rounding."""
    if isinstance(expected, dict) and isinstance(actual, dict) and expected.keys() == actual.keys():
        for name in expected:
            yield from list_differences(expected[name], actual[name], f"{path}.{name}" if path else name)
    elif isinstance(expected, list | tuple) and isinstance(actual, list | tuple) and len(expected) == len(actual):
        for place, (one, other) in enumerate(zip(expected, actual, strict=True)):
            yield from list_differences(one, other, f"{path}[{place}]")
    elif isinstance(expected, float) and isinstance(actual, float):
        if not is_close(expected, actual):
            yield path
    elif expected != actual:
        yield path


def is_close(one: float, other: float) -> bool:
    """Return whether two numbers are equal up to rounding."""
    return math.isclose(one, other, rel_tol=_TOLERANCE, abs_tol=_TOLERANCE)
