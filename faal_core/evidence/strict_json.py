"""Read and write JSON that every reader understands in the same way."""

import json
from typing import Any

from faal_core.evidence.refusal import PackRefused


def encode(document: object) -> bytes:
    """Return the document in one form: keys in order, no white space, ASCII alone."""
    return json.dumps(document, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def decode(content: bytes, name: str) -> Any:  # noqa: ANN401 - JSON
    """Return the document in `content`. Raises: PackRefused if it is no JSON, or an object has two fields of one name."""
    try:
        return json.loads(content, object_pairs_hook=_collect_pairs, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise PackRefused(f"{name} is not valid JSON: {str(error)[:200]}.") from None


def is_name(value: object) -> bool:
    """Return whether the value is a text that UTF-8 can encode, or None."""
    if not isinstance(value, str):
        return value is None
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _collect_pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) < len(pairs):
        raise ValueError("an object has two fields of one name")
    return fields


def _refuse_constant(text: str) -> float:
    raise ValueError(f"{text} is no number of JSON")
