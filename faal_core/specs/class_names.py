"""Define valid class names, and decide when two names mean the same class."""

import re
import unicodedata

MAX_NAME_LENGTH = 100  # characters
MAX_COLUMNS, MAX_GROUPS = 10, 100  # columns of groups in a data set, and groups in a column
_FORBIDDEN = {"Cc", "Cs"}  # Unicode's control characters and halves of characters
_SEPARATORS = re.compile(r"[\s_\-‐-―/\\:*?\"<>|]+")  # blanks, dashes, and signs that a folder's name cannot have


def is_name(text: str) -> bool:
    """Return whether a class or group may have this name: 1 to `MAX_NAME_LENGTH` characters, no control characters."""
    return 0 < len(text) <= MAX_NAME_LENGTH and not any(unicodedata.category(sign) in _FORBIDDEN for sign in text)


def normalise_name(name: str) -> str:
    """Return the form in which names are compared: NFC, case folded, trimmed, each run of separators one blank.

    A whole number is compared by its value: `007` equals `7`.
    """
    folded = _SEPARATORS.sub(" ", unicodedata.normalize("NFC", name).casefold()).strip()
    if folded.isdecimal():  # of any script and length; int() takes 4,300 digits at most
        return "".join(str(unicodedata.decimal(digit)) for digit in folded).lstrip("0") or "0"
    return folded or name
