"""Turn names of classes and groups into parts of metric names that other tools accept, and that stay distinct there."""

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence

MAX_KEY_LENGTH = 100  # characters, before a number is appended; MLflow's metric names have at most 250

KeyMaker = Callable[[Sequence[str]], list[str]]
"""Returns a key for each name."""


def any_script_keys(names: Sequence[str]) -> list[str]:
    """Return a key of letters and digits of any script, and underscores, for each name.

    Other characters become an underscore. Names whose keys would differ in case or accents alone, and names without a letter or
    digit, get their number in the list: some databases ignore case and accents.
    """
    return _distinct([_join_words(r"\W", name) for name in names])


def ascii_keys(names: Sequence[str]) -> list[str]:
    """Return a key of ASCII letters, digits and underscores for each name; otherwise as `any_script_keys`."""
    return _distinct([_join_words(r"[^0-9A-Za-z]", _without_accents(name)) for name in names])


def _join_words(separator: str, name: str) -> str:
    return re.sub(rf"(?:{separator}|_)+", "_", unicodedata.normalize("NFC", name)).strip("_")[:MAX_KEY_LENGTH]


def _without_accents(name: str) -> str:
    return "".join(sign for sign in unicodedata.normalize("NFKD", name) if not unicodedata.combining(sign))


def _fold(key: str) -> str:
    """Return the form in which databases that ignore case and accents compare keys."""
    return _without_accents(key.casefold())


def _distinct(keys: Sequence[str]) -> list[str]:
    """Return the keys, with their numbers where two are equal or one is empty."""
    counts = Counter(map(_fold, keys))
    taken = {form for form, count in counts.items() if count == 1 and form}
    distinct = []
    for number, key in enumerate(keys):
        unique = key
        if counts[_fold(key)] > 1 or not key:
            unique = f"{key}_{number}".lstrip("_")  # no two of these are equal: each ends with a number of its own
            while _fold(unique) in taken:
                unique += f"_{number}"
        distinct.append(unique)
    return distinct
