"""What pydantic finds wrong with a request, in words for whoever wrote it: the value, and what it may be."""

import difflib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from pydantic import JsonValue

if TYPE_CHECKING:
    from pydantic import ValidationError
    from pydantic_core import ErrorDetails

MAX_ERRORS = 20  # that an answer lists; the others are counted
_LONGEST = 60  # characters of a value that a message repeats


def shortened(text: str, most: int) -> str:
    """Return the text in at most `most` characters, all of which UTF-8 can write."""
    cut = text if len(text) <= most else f"{text[: most - 1]}…"
    return cut.encode(errors="replace").decode()


def first_errors(error: "ValidationError") -> "tuple[list[ErrorDetails], int]":
    """Return the first relevant errors, at most `MAX_ERRORS`, and how many more there are."""
    errors = list(relevant(error.errors(include_url=False)))
    return errors[:MAX_ERRORS], max(0, len(errors) - MAX_ERRORS)


def explain(found: "ErrorDetails") -> str:
    """Return what is wrong with a field, with its value where that is a single one."""
    value, context = found.get("input"), found.get("ctx", {})
    shown = _short(value) if isinstance(value, str | int | float | None) else "this"
    match found["type"]:
        case "missing":
            return "is missing"
        case "extra_forbidden":
            return "there is no such field"
        case "union_tag_invalid":
            return _none_of(context["tag"], context["expected_tags"])
        case "literal_error" | "enum" if isinstance(value, str):
            return _none_of(value, context["expected"])
        case "union_tag_not_found":
            return f"the field {context['discriminator']} is missing"
    message = found["msg"].removeprefix("Value error, ").partition(", unable to parse")[0]
    return message.replace("Input should", f"{shown} should", 1)


def relevant(errors: "Sequence[ErrorDetails]") -> "Iterator[ErrorDetails]":
    """Yield the errors without those that follow from another: a list counts as too short when its items are wrong."""
    places = {found["loc"] for found in errors}
    for found in errors:
        size = len(found["loc"])
        if found["type"] != "too_short" or not any(len(one) > size and one[:size] == found["loc"] for one in places):
            yield found


def steps_in(location: Sequence[str | int], body: JsonValue) -> Iterator[str | int]:
    """Yield the steps of pydantic's `location` that lead through `body`.

    Steps that exist in the schema only (the names of union members) are left out; a last step that names a missing
    field is kept.
    """
    for position, step in enumerate(location):
        if isinstance(body, dict) and step in body:
            body = body[str(step)]
            yield step
        elif isinstance(body, list) and isinstance(step, int) and step < len(body):
            body = body[step]
            yield step
        elif isinstance(body, dict) and position == len(location) - 1 and step != body.get("type"):
            yield step


def _none_of(value: str, expected: str) -> str:
    """The sentence for a value that is none of the expected ones, which pydantic lists in quotes."""
    names = [name.strip(" '") for name in expected.replace(" or ", ", ").split(",")]
    near = difflib.get_close_matches(value[:_LONGEST].casefold(), names, n=1)
    meant = f"; did you mean {near[0]}?" if near else ""
    return f"{_short(value)} is none of {', '.join(names)}{meant}"


def _short(value: float | str | None) -> str:
    return repr(value[:_LONGEST] if isinstance(value, str) else value)[: _LONGEST + 2]
