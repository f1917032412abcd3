"""Explain pydantic's validation errors to the author of a request: the value, and the allowed values."""

import difflib
import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel, JsonValue, ValidationError

from faal_core.errors import InvalidSpec

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

Checked = TypeVar("Checked", bound=BaseModel)

MAX_ERRORS = 20  # errors listed in an answer; the others are only counted
_LONGEST = 60  # characters of a value that a message repeats


def shorten(text: str, most: int) -> str:
    """Return the text in at most `most` characters, all of which UTF-8 can encode."""
    cut = text if len(text) <= most else f"{text[: most - 1]}…"
    return cut.encode(errors="replace").decode()


def check_fields(model: type[Checked], **fields: Any) -> Checked:  # noqa: ANN401 - whatever a caller in Python passes
    """Return the fields that are not None as that model. Raises: InvalidSpec, with a sentence for each wrong field."""
    try:
        return model.model_validate({name: value for name, value in fields.items() if value is not None})
    except ValidationError as error:
        first, more = first_errors(error)
        lines = [
            f"{'.'.join(map(str, detail['loc']))}: {explain(detail)}".removeprefix(": ").removesuffix(".")
            for detail in first
        ]
        raise InvalidSpec("; ".join(lines) + (f"; and {more} more" if more else "") + ".") from None


def first_errors(error: ValidationError) -> "tuple[list[ErrorDetails], int]":
    """Return the first relevant errors, at most `MAX_ERRORS`, and the number of further ones."""
    errors = list(filter_relevant(error.errors(include_url=False)))
    return errors[:MAX_ERRORS], max(0, len(errors) - MAX_ERRORS)


def explain(error: "ErrorDetails") -> str:
    """Return a message on one field error, with the field's value where it is a single one."""
    value, context = error.get("input"), error.get("ctx", {})
    written = _quote(value) if isinstance(value, str | int | float | None) else "this"
    match error["type"]:
        case "missing":
            return "is missing"
        case "extra_forbidden":
            return "there is no such field"
        case "union_tag_invalid":
            return _explain_choice(context["tag"], context["expected_tags"])
        case "literal_error" | "enum" if isinstance(value, str):
            return _explain_choice(value, context["expected"])
        case "union_tag_not_found":
            return f"the field {context['discriminator']} is missing"
    message = error["msg"].removeprefix("Value error, ").partition(", unable to parse")[0]
    message = re.sub("a valid dictionary( or .*)?$", "an object with fields", message)
    message = message.replace("String should", "the text should", 1)
    return message.replace("Input should", f"{written} should", 1).replace("Tuple should", "the list should", 1)


def filter_relevant(errors: "Sequence[ErrorDetails]") -> "Iterator[ErrorDetails]":
    """Yield the errors that do not follow from another error: a list counts as too short when its items are invalid."""
    places = {error["loc"] for error in errors}
    for error in errors:
        size = len(error["loc"])
        if error["type"] != "too_short" or not any(len(one) > size and one[:size] == error["loc"] for one in places):
            yield error


def steps_in(location: Sequence[str | int], body: JsonValue) -> Iterator[str | int]:
    """Yield the steps of pydantic's `location` that lead through `body`.

    Steps that exist in the schema only (the names of union members) are left out. A last step that names a missing field
    is kept.
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


def _explain_choice(value: str, expected: str) -> str:
    """Return the message on a value that is none of the expected ones, which pydantic lists in quotes."""
    names = [name.strip(" '") for name in expected.replace(" or ", ", ").split(",")]
    nearest = difflib.get_close_matches(value[:_LONGEST].casefold(), names, n=1)
    hint = f"; did you mean {nearest[0]}?" if nearest else ""
    return f"{_quote(value)} is none of {', '.join(names)}{hint}"


def _quote(value: float | str | None) -> str:
    return repr(value[:_LONGEST] if isinstance(value, str) else value)[: _LONGEST + 2]
