"""How options and a `--spec` file become specs, and what is wrong with a spec in the terms of both.

An option left out leaves the file's value, or the spec's own default, in place. Which option a field of a spec comes from is
read off the fields that a command hands over: each is called as the command's parameter is.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import typer

if TYPE_CHECKING:
    from pydantic import BaseModel, ValidationError
    from pydantic_core import ErrorDetails

    from faal_core.specs import ClassifierSpec

    Checked = TypeVar("Checked", bound=BaseModel)

MAX_LINE = 1000  # characters of an error; names in a file of somebody else can have a million
ASKED_WRONGLY = 2
Fields = Mapping[str, object]


class _Option(NamedTuple):
    """How an option is written, and what `--help` says of it."""

    name: str
    help: str


def numbers(text: str | None) -> list[str] | None:
    """Return the parts of a list with commas, for a spec to read as numbers."""
    return None if text is None else text.split(",")


def attacks(text: str | None) -> object:
    """Return the value of `--attacks` for a spec: a preset's name, or the attacks of a JSON list. Raises: typer.BadParameter."""
    return _json(text, "--attacks") if text is not None and text.lstrip().startswith("[") else text


def build_spec(context: typer.Context, spec: "type[Checked]", file: Path | None, given: Fields) -> "Checked":
    """Return the spec in `file`, if any, with the given options over it.

    Raises: typer.BadParameter for a file that is no JSON object; typer.Exit(2) after the errors were printed.
    """
    written = _json(file.read_bytes(), "--spec") if file else {}
    if not isinstance(written, dict):
        raise typer.BadParameter("the file holds no JSON object", param_hint="--spec")
    return checked(context, spec, _merged(written, given), given, file)


def classifier_spec(
    context: typer.Context,
    architecture: str | None,
    num_classes: int | None,
    mean: str | None,
    std: str | None,
    arguments: list[str] | None,
) -> "ClassifierSpec | None":
    """Return the network that the options describe; None when the weights must say it.

    Raises: typer.BadParameter, and typer.Exit(2) as `build_spec`.
    """
    from faal_core.specs import ClassifierSpec

    if architecture is None:
        if any(option is not None for option in (num_classes, mean, std)) or arguments:
            raise typer.BadParameter("--num-classes, --mean, --std and --argument go with --architecture")
        return None
    pairs = [text.partition("=") for text in arguments or []]
    if any(not sign for _, sign, _ in pairs):
        raise typer.BadParameter("an argument is written name=value", param_hint="--argument")
    given = {
        "architecture": architecture,
        "num_classes": num_classes,
        "mean": numbers(mean),
        "std": numbers(std),
        "arguments": {name: value for name, _, value in pairs},
    }
    return checked(context, ClassifierSpec, _merged({}, given), given, None)


def refuse(error: "ValidationError") -> typer.Exit:
    """Print what is wrong with a document, a line for each field, and return the exit with code 2."""
    return _refused(error, lambda found: f"{_path(found['loc']) or 'document'}: {_explained(found)}")


def _json(text: str | bytes, where: str) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise typer.BadParameter(f"not JSON: {error}", param_hint=where) from None


def _merged(under: dict[str, Any], over: Fields) -> dict[str, Any]:
    """Both together; where both speak, `over`. None in `over` is silence."""
    merged = dict(under)
    for name, value in over.items():
        if isinstance(value, Mapping):
            inner = merged.get(name)
            merged[name] = _merged(inner if isinstance(inner, dict) else {}, value)
        elif value is not None:
            merged[name] = value
    return merged


def checked(
    context: typer.Context, model: "type[Checked]", fields: Fields, given: Fields, file: Path | None
) -> "Checked":
    """Return the fields as that model. Raises: typer.Exit(2) after the errors were printed, a line each."""
    from pydantic import ValidationError

    try:
        return model.model_validate(fields)
    except ValidationError as error:
        raise _refused(error, lambda found: _line(context, found, fields, given, file)) from None


def _explained(found: "ErrorDetails") -> str:
    from faal_core.specs.field_errors import explain

    return explain(found)


def _refused(error: "ValidationError", line: "Callable[[ErrorDetails], str]") -> typer.Exit:
    from faal_core.reports.text import shown
    from faal_core.specs.field_errors import first_errors, shortened

    first, more = first_errors(error)
    for found in first:
        typer.echo(shown(shortened(line(found), MAX_LINE)), err=True)
    if more:
        typer.echo(f"… and {more} more", err=True)
    return typer.Exit(ASKED_WRONGLY)


def _line(context: typer.Context, found: "ErrorDetails", fields: Fields, given: Fields, file: Path | None) -> str:
    """Return the error as a line that begins with the option, or with the file and the path in it."""
    from faal_core.specs.field_errors import steps_in

    steps = list(steps_in(found["loc"], dict(fields)))  # type: ignore[arg-type]  # JSON, but for tuples of options
    value, depth = _follow(given, steps)
    option = _option(context, steps[:depth])
    if found["type"] == "missing" and option is not None and value is None:
        elsewhere = f"; {file} has no {_path(steps)} either" if file else ""
        return f"{option.name} is missing{elsewhere}. {option.help}"
    explained = _explained(found)
    if isinstance(value, Mapping):  # about several fields together
        together = [one.name for name in value if value[name] and (one := _option(context, [*steps, name]))]
        return f"{', '.join(together) or file or 'options'}: {explained}"
    if option is None or (value is None and file):
        return f"{file or 'options'}: {_path(steps) or 'document'}: {explained}"
    if found["type"] == "extra_forbidden" and depth == len(steps):
        tag = [step for step in found["loc"] if step not in steps]
        return f"{option.name} does not go with {tag[-1] if tag else 'this'}; leave it out"
    rest = _path(steps[depth:])
    return f"{option.name}: {rest}{': ' if rest else ''}{explained}"


def _follow(given: Fields, steps: Sequence[str | int]) -> tuple[object, int]:
    """Return the option's value on that path, or the group of options at its end, and how many steps lead there."""
    inner: object = given
    for depth, step in enumerate(steps):
        if not isinstance(inner, Mapping) or step not in inner:
            return (None if isinstance(inner, Mapping) else inner), depth
        inner = inner[str(step)]
    return inner, len(steps)


def _option(context: typer.Context, steps: Sequence[str | int]) -> _Option | None:
    """Return the running command's option for that field: the parameter called as the last step, or as one before it."""
    known = {parameter.name: parameter for parameter in context.command.params}
    found = next((known[str(step)] for step in reversed(steps) if step in known), None)
    return None if found is None else _Option(max(found.opts, key=len), getattr(found, "help", None) or "")


def _path(steps: Sequence[str | int]) -> str:
    """Return the path as it is written in code: "attacks[0].steps"."""
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in steps).removeprefix(".")
