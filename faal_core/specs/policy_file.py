"""Read the file of a policy: YAML, or JSON where its name ends in .json."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from faal_core.errors import InvalidSpec

if TYPE_CHECKING:
    import yaml

MAX_BYTES = 512 * 1024  # a limit for each of 10,000 classes fits
_LONGEST = 60  # characters of a key that a message repeats


def read_policy_document(path: Path) -> dict[str, Any]:
    """Return the fields in the file, before they are validated. Raises: InvalidSpec, as `parse_policy_document`; OSError."""
    with path.open("rb") as file:
        return parse_policy_document(file.read(MAX_BYTES + 1), str(path))


def is_json(text: str) -> bool:
    """Return whether the text of a policy is JSON; other texts are read as YAML."""
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def parse_policy_document(content: bytes, name: str) -> dict[str, Any]:
    """Return the fields in the content of the file of that name. The values of YAML are texts, which the policy reads.

    Raises: InvalidSpec for a file that is too large, is malformed, repeats a key, or has YAML's anchors.
    """
    if len(content) > MAX_BYTES:
        raise InvalidSpec(f"{name} has more than {MAX_BYTES // 1024} KiB. Name the file of a policy.")
    kind = "JSON" if name.endswith(".json") else "YAML"
    try:
        document = json.loads(content, object_pairs_hook=_collect_pairs) if kind == "JSON" else _read_yaml(content)
    except (ValueError, RecursionError) as error:
        what = "it is nested too deeply" if isinstance(error, RecursionError) else " ".join(str(error).split())
        raise InvalidSpec(f"{name} is not a policy in {kind}: {what}.") from None
    if not isinstance(document, dict):
        raise InvalidSpec(f"{name} has no fields. Write one requirement a line, such as: min_worst: 0.25")
    return document


def _collect_pairs(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    for key, value in pairs:
        if key in fields:
            raise ValueError(f"the key {key[:_LONGEST]!r} occurs twice")
        fields[key] = value
    return fields


def _read_yaml(content: bytes) -> Any:  # noqa: ANN401 - YAML
    """Return the document with every scalar as text, so that `no` and `0` can be names of classes. Raises: ValueError."""
    try:
        import yaml
    except ModuleNotFoundError as missing:
        raise InvalidSpec(
            "A policy in YAML needs PyYAML. Run pip install 'faal[cli]', or write the policy as a .json file."
        ) from missing

    class Loader(yaml.BaseLoader):  # type: ignore[misc]
        """Constructs mappings, lists and texts. Refuses anchors, which can expand to gigabytes, and repeated keys."""

        def compose_node(self, parent: "yaml.Node | None", index: int) -> "yaml.Node | None":
            if self.check_event(yaml.AliasEvent):
                raise ValueError(
                    f"line {self.peek_event().start_mark.line + 1} refers to an anchor; write the value there"
                )
            return super().compose_node(parent, index)

        def construct_mapping(self, node: "yaml.MappingNode", deep: bool = False) -> dict[Any, Any]:
            pairs = [(self.construct_object(key, deep=True), value) for key, value in node.value]
            for key, value in pairs:
                if not isinstance(key, str):
                    raise ValueError(f"a key in line {value.start_mark.line + 1} is no text")  # noqa: TRY004 - for the caller
            return _collect_pairs((key, self.construct_object(value, deep=True)) for key, value in pairs)

    try:
        return yaml.load(content, Loader)  # noqa: S506 - a BaseLoader constructs no objects
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from None
