"""Turn options, `--set` and a `--spec` file into specs, and report errors by the option, setting or file they came from.

An option left out leaves the file's value, or the spec's own default, in place. An option sets the field that has its name:
a command hands over a document whose leaves are named like the command's parameters. `--method` sets the method's `type`.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import typer

from faal_core.cli.spec_fields import SpecField, spec_fields
from faal_core.cli.spec_file import Fields, Place, did_you_mean, merge, parse_setting, path_of, put, read_document

if TYPE_CHECKING:
    from pydantic import BaseModel, ValidationError
    from pydantic_core import ErrorDetails

    from faal_core.specs import ClassifierSpec

    Checked = TypeVar("Checked", bound=BaseModel)

_OTHER_FIELDS = {"method": "type"}  # of options that are not named like their field
MAX_LINE = 1000  # characters of an error; names in a file of somebody else can have a million
ASKED_WRONGLY = 2


class _Source(NamedTuple):
    """An option or a setting: its name, its text in `--help`, and whether the command line has it."""

    name: str
    help: str
    is_set: bool


class _Origins(NamedTuple):
    """The origins of a document's fields: options and settings by path, and the file."""

    sources: Mapping[Place, _Source]
    file: Path | None = None
    fields: Mapping[str, SpecField] = {}


def numbers(text: str | None) -> list[str] | None:
    """Return the parts of a list with commas, for a spec to read as numbers."""
    return None if text is None else text.split(",")


def attacks(text: str | None) -> object:
    """Return the value of `--attacks` for a spec: a preset's name, or the attacks of a JSON list. Raises: typer.BadParameter."""
    if text is None or not text.lstrip().startswith("["):
        return text
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise typer.BadParameter(f"not JSON: {error}", param_hint="--attacks") from None


def build_spec(
    context: typer.Context,
    model: "type[Checked]",
    file: Path | None,
    options: Fields,
    settings: Sequence[str] | None = None,
    *,
    read: Callable[[Path], dict[str, Any]] = read_document,
) -> "Checked":
    """Return the spec in `file`, if any, overridden by the options and the settings of `--set`.

    Args:
        read: reader of the file; of JSON and TOML when absent.
    Raises: typer.BadParameter for a file that is no JSON or TOML document; typer.Exit(2) after the errors were printed.
    """
    document = merge(read(file) if file else {}, options)
    option_sources = _sources(context, options)
    sources = dict(option_sources)
    fields = spec_fields(model)
    complaints = []
    for text in settings or ():
        try:
            assigned = list(parse_setting(text, fields, {path: one.name for path, one in option_sources.items()}))
        except ValueError as error:
            complaints.append(str(error))
            continue
        for path, value in assigned:
            put(document, path, value)
            sources[path] = _Source(f"--set {path_of(path)}", "", is_set=True)
    if complaints:
        raise _refused(complaints)
    return _validate(model, document, _Origins(sources, file, fields))


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
            raise typer.BadParameter("--num-classes, --mean, --std and --argument go with --architecture or --network")
        return None
    pairs = [text.partition("=") for text in arguments or []]
    if any(not sign for _, sign, _ in pairs):
        raise typer.BadParameter("an argument is written name=value", param_hint="--argument")
    options = {
        "architecture": architecture,
        "num_classes": num_classes,
        "mean": numbers(mean),
        "std": numbers(std),
        "arguments": {name: value for name, _, value in pairs},
    }
    return check_options(context, ClassifierSpec, {}, options)


def check_options(context: typer.Context, model: "type[Checked]", defaults: Fields, options: Fields) -> "Checked":
    """Return the options, over the defaults, as that model. Raises: typer.Exit(2) after the errors were printed."""
    return _validate(model, merge(dict(defaults), options), _Origins(_sources(context, options)))


def refuse(error: "ValidationError") -> typer.Exit:
    """Print what is wrong with a document, a line for each field, and return the exit with code 2."""
    return _refused(*_lines(error, lambda detail: f"{path_of(detail['loc']) or 'document'}: {_explained(detail)}"))


def _validate(model: "type[Checked]", document: Fields, origins: _Origins) -> "Checked":
    from pydantic import ValidationError

    try:
        return model.model_validate(document)
    except ValidationError as error:
        raise _refused(*_lines(error, lambda detail: _line(detail, document, origins))) from None


def _sources(context: typer.Context, options: Fields, path: Place = ()) -> dict[Place, _Source]:
    """Return the options by the path of the field that each sets: the running command's parameters named like the leaves."""
    parameters = {_OTHER_FIELDS.get(one.name or "", one.name): one for one in context.command.params}
    sources = {}
    for name, value in options.items():
        if parameter := parameters.get(name):
            option = max(parameter.opts, key=len)
            explained = getattr(parameter, "help", None) or ""
            sources[*path, name] = _Source(option, explained, is_set=value is not None and value != {})
        elif isinstance(value, Mapping):
            sources |= _sources(context, value, (*path, name))
        else:
            raise KeyError(f"{context.command.name} has no option named {name}")
    return sources


def _explained(detail: "ErrorDetails") -> str:
    from faal_core.specs.field_errors import explain

    return explain(detail)


def _lines(error: "ValidationError", line: "Callable[[ErrorDetails], str]") -> tuple[Iterator[str], int]:
    """Return the lines for the first errors, and how many errors have none."""
    from faal_core.specs.field_errors import first_errors

    first, more = first_errors(error)
    return map(line, first), more


def _refused(lines: Iterable[str], more: int = 0) -> typer.Exit:
    """Print the lines, each shortened, and return the exit with code 2."""
    from faal_core.reports.text import sanitise
    from faal_core.specs.field_errors import shorten

    for line in lines:
        typer.echo(sanitise(shorten(line, MAX_LINE)), err=True)
    if more:
        typer.echo(f"… and {more} more", err=True)
    return typer.Exit(ASKED_WRONGLY)


def _line(detail: "ErrorDetails", document: Fields, origins: _Origins) -> str:
    """Return the error as a line that begins with the option, or with the file and the path in it."""
    from faal_core.specs.field_errors import steps_in

    sources, file, fields = origins
    steps = tuple(steps_in(detail["loc"], dict(document)))  # type: ignore[arg-type]  # JSON, but for tuples of options
    depth = next((size for size in range(len(steps), 0, -1) if steps[:size] in sources), 0)
    source = sources.get(steps[:depth])
    if detail["type"] == "missing" and source and not source.is_set:
        elsewhere = f"; {file} has no {path_of(steps)} either" if file else ""
        return f"{source.name} is missing{elsewhere}. {source.help}"
    explained = _explained(detail)
    within = [
        one.name
        for path, one in sources.items()
        if one.is_set and len(path) > len(steps) and path[: len(steps)] == steps
    ]
    if within:  # about several fields together
        named = [name for name in within if steps or name.startswith("--set ")]
        return _join(", ".join(named) or file, explained)
    if source is None or (file and not source.is_set):
        unknown = detail["type"] == "extra_forbidden"
        meant = did_you_mean(path_of(steps), fields) if unknown else ""
        return _join(file, path_of(steps), f"{explained}{meant}")
    if detail["type"] == "extra_forbidden" and depth == len(steps):
        tag = [step for step in detail["loc"] if step not in steps]
        return f"{source.name} does not go with {tag[-1] if tag else 'this'}; leave it out"
    rest = path_of(steps[depth:])
    return f"{source.name}: {rest}{': ' if rest else ''}{explained}"


def _join(*parts: object) -> str:
    """Return the parts that are not empty, with colons between them."""
    return ": ".join(str(part) for part in parts if part)
