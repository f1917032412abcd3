"""When two names of classes mean the same class."""

import re
import unicodedata

_SEPARATORS = re.compile(r"[\s_\-‐-―/\\:*?\"<>|]+")  # blanks, dashes, and signs that a folder's name cannot have


def comparable(name: str) -> str:
    """Return the form in which names are compared: NFC, case folded, trimmed, each run of separators one blank.

    A whole number is compared by its value: `007` is `7`.
    """
    folded = _SEPARATORS.sub(" ", unicodedata.normalize("NFC", name).casefold()).strip()
    return str(int(folded)) if folded.isdecimal() else folded or name
