"""The document that a spec is checked from: a `--spec` file, over it the options, and the fields that `--set` names.

Every field has one way to be set: a field with an option of its own is refused by `--set`.
"""

import json
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import typer

from faal_core.cli.spec_fields import SpecField, similar_paths

_LONGEST = 60  # characters of a value that a message repeats
Fields = Mapping[str, object]
Steps = tuple[str, ...]
Place = tuple[str | int, ...]  # in a document that has lists, too


def read_document(file: Path) -> dict[str, Any]:
    """Return the JSON or TOML document in the file. Raises: typer.BadParameter."""
    toml = file.suffix == ".toml"
    kind = "TOML" if toml else "JSON"
    try:
        document = tomllib.loads(file.read_text("utf-8")) if toml else json.loads(file.read_bytes())
    except (ValueError, RecursionError) as error:
        raise typer.BadParameter(f"{file} is not {kind}: {error}", param_hint="--spec") from None
    if not isinstance(document, dict):
        raise typer.BadParameter(f"{file} holds no JSON object", param_hint="--spec")
    return document


def merge(defaults: dict[str, Any], overrides: Fields) -> dict[str, Any]:
    """Return both documents together; `overrides` wins, except where it holds None."""
    both = dict(defaults)
    for name, value in overrides.items():
        if isinstance(value, Mapping):
            inner = both.get(name)
            both[name] = merge(inner if isinstance(inner, dict) else {}, value)
        elif value is not None:
            both[name] = value
    return both


def put(document: dict[str, Any], path: Steps, value: object) -> None:
    """Write the value into the document at that path. An empty object only makes sure that the group exists."""
    *groups, name = path
    for group in groups:
        if not isinstance(document.get(group), dict):
            document[group] = {}
        document = document[group]
    if value != {} or not isinstance(document.get(name), dict):
        document[name] = value


def parse_setting(
    text: str, fields: Mapping[str, SpecField], options: Mapping[Place, str]
) -> Iterator[tuple[Steps, object]]:
    """Yield the path and the value of each field that PATH=VALUE sets: several for a JSON object.

    Args:
        options: the names of the options by the path of the field that each sets.
    Raises: ValueError with a message that begins as the setting was typed.
    """
    path, sign, written = text.partition("=")
    if not sign:
        raise ValueError(f"--set {text}: the value is missing. Write --set {text}=VALUE.")
    try:
        value = json.loads(written)
    except (ValueError, RecursionError):
        value = written
    yield from _assignments(path.strip(), value, fields, options)


def _assignments(
    path: str, value: object, fields: Mapping[str, SpecField], options: Mapping[Place, str]
) -> Iterator[tuple[Steps, object]]:
    steps = tuple(path.split("."))
    if path not in fields:
        raise ValueError(f"--set {path}: there is no such field{did_you_mean(path, fields)}")
    if own := options.get(steps):
        raise ValueError(f"--set {path}: this field has an option. Pass {own} instead.")
    if not fields[path].is_group or (value is None and "null" in fields[path].values):
        yield steps, value
    elif not isinstance(value, dict):
        inner = next(known for known in fields if known.startswith(f"{path}."))
        raise ValueError(
            f"--set {path}: {json.dumps(value)[:_LONGEST]} is no value for a group of fields. Name a field, such as {inner}."
        )
    elif not value:
        yield steps, value
    else:
        for name, inner_value in value.items():
            yield from _assignments(f"{path}.{name}", inner_value, fields, options)


def did_you_mean(path: str, fields: Mapping[str, SpecField]) -> str:
    """Return the end of a message about an unknown path: similar paths, or the command that lists all."""
    near = similar_paths(path, fields)
    return f"; did you mean {', '.join(near)}?" if near else ". `faal fields` lists all."


def path_of(steps: Sequence[str | int]) -> str:
    """Return the path as it is written in code: "attacks[0].steps"."""
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in steps).removeprefix(".")
