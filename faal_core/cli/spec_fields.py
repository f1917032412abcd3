"""The fields of a command's spec by their dotted paths, read from the spec's JSON schema."""

import difflib
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from pydantic import BaseModel

_LONGEST = 60  # characters of a path that are compared with others
_NUMBERS = {"integer": "whole number", "number": "number", "string": "text", "array": "list", "null": "null"}
Schema = Mapping[str, Any]
SPECS = {"audit": "AuditSpec", "finetune": "FinetuneSpec"}
"""The spec of each command that reads one, by name: importing them takes a while."""


class SpecField(NamedTuple):
    """Describes a field of a spec: the kinds or names of its values, its default, and its meaning.

    A group is a field that consists of fields.
    """

    values: tuple[str, ...]
    default: str
    description: str
    is_group: bool


def command_spec(command: str) -> "type[BaseModel]":
    """Return the spec that the command of that name reads."""
    from faal_core import specs

    return getattr(specs, SPECS[command])


def spec_fields(model: "type[BaseModel]") -> dict[str, SpecField]:
    """Return every field by its path, such as "training.batch_size", groups before their fields."""
    schema = model.model_json_schema()
    variants: dict[str, list[Schema]] = {}
    _collect(schema["properties"], schema.get("$defs", {}), "", variants)
    return {path: _field(alike, schema.get("$defs", {})) for path, alike in variants.items()}


def similar_paths(path: str, fields: Mapping[str, SpecField]) -> list[str]:
    """Return the paths that may have been meant, at most three: those that end with the same name first."""
    name = path.rpartition(".")[2]
    same = [known for known in fields if known.rpartition(".")[2] == name]
    return (same or difflib.get_close_matches(path[:_LONGEST], fields, cutoff=0.75))[:3]


def _collect(properties: Schema, definitions: Schema, prefix: str, variants: dict[str, list[Schema]]) -> None:
    """Add each property's schema at its path; one path has several where a union's members share a name."""
    for name, schema in properties.items():
        variants.setdefault(f"{prefix}{name}", []).append(schema)
        for kind in _kinds(schema, definitions):
            _collect(kind.get("properties", {}), definitions, f"{prefix}{name}.", variants)


def _kinds(schema: Schema, definitions: Schema) -> list[Schema]:
    """Return the members of a union, or the schema itself, without references."""
    if members := schema.get("anyOf") or schema.get("oneOf"):
        return [kind for member in members for kind in _kinds(member, definitions)]
    if reference := schema.get("$ref"):
        return _kinds(definitions[reference.rpartition("/")[2]], definitions)
    return [schema]


def _field(alike: list[Schema], definitions: Schema) -> SpecField:
    kinds = [kind for schema in alike for kind in _kinds(schema, definitions)]
    values = dict.fromkeys(value for kind in kinds for value in _values(kind))
    description = next((schema["description"] for schema in alike if "description" in schema), "")
    return SpecField(tuple(values), _default(alike), description, any("properties" in kind for kind in kinds))


def _default(alike: list[Schema]) -> str:
    """Return the default as it is written after `--set PATH=`; "" where there is none, or one of several fields."""
    defaults = [schema["default"] for schema in alike if "default" in schema]
    if all("const" in schema for schema in alike):  # a union's first member is its default
        defaults = defaults[:1]
    if any("{" in json.dumps(default) for default in defaults):
        return ""
    written = {default if isinstance(default, str) else json.dumps(default) for default in defaults}
    return "the method's" if len(written) > 1 else "".join(written)


def _values(kind: Schema) -> list[str]:
    """Return the values of an enumeration, or the name of the kind."""
    if "const" in kind:
        return [str(kind["const"])]
    if "enum" in kind:
        return [str(value) for value in kind["enum"]]
    if kind.get("type") == "boolean":
        return ["true", "false"]
    return [_NUMBERS[kind["type"]]] if kind.get("type") in _NUMBERS else []
