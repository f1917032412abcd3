"""Write the reference pages that are committed, from the code; tests compare the two.

    docs/reference/settings.md    from jobs.settings.Settings
    docs/reference/problems.md    from api.problems.explanations
    docs/reference/extras.md      from the extras in pyproject.toml
    docs/reference/policy.schema.json    from faal_core.specs.Policy
    docs/reference/report.md      from the documents of faal_core.results, with docs/reference/field_notes.toml
    docs/explanation/layers.md    from the import-linter contracts in pyproject.toml
    docs/explanation/job-states.md    from jobs.states.MOVES

The pages of the Python API, the command line and the HTTP API are long and made by `make docs` alone.
"""

import json
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic_core import PydanticUndefined

from api.problems.explanation import Explanation, ProblemExplanation
from api.problems.explanations import SECTIONS
from faal_core.results.comparison_documents import ComparisonReport, ModelTable
from faal_core.results.document import Document
from faal_core.results.documents import AuditReport
from faal_core.results.finetune_documents import FinetuneReport
from faal_core.results.gates.documents import GateResult
from faal_core.results.method_table_documents import MethodTable
from faal_core.specs import Policy
from jobs.settings import Settings
from jobs.states import FINAL, MOVES, JobState

ROOT = Path(__file__).resolve().parents[1]
NOTES = ROOT / "docs/reference/field_notes.toml"
HEADER = "<!-- Written by scripts/write_reference.py from the code; do not edit. -->\n\n"
REPORTS = (AuditReport, FinetuneReport, ComparisonReport, ModelTable, MethodTable, GateResult)
DOCUMENTS = {one.__name__ for one in Document.__subclasses__()}  # parts of reports; the other types are parts of specs
Schema = Mapping[str, Any]


def pages() -> dict[Path, str]:
    """Return the text of each page by its file."""
    reference = ROOT / "docs/reference"
    return {
        reference / "settings.md": settings_page(),
        reference / "problems.md": problems_page(),
        reference / "extras.md": extras_page(),
        reference / "policy.schema.json": policy_schema(),
        reference / "report.md": report_page(),
        ROOT / "docs/explanation/layers.md": layers_page(),
        ROOT / "docs/explanation/job-states.md": states_page(),
    }


def policy_schema() -> str:
    """Return the JSON schema of the files of policies, which editors read."""
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", **Policy.model_json_schema()}
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


def settings_page() -> str:
    """Return the table of all settings."""
    rows = []
    for name, field in Settings.model_fields.items():
        default = "–" if field.default in (None, PydanticUndefined) else f"`{field.default}`"
        rows.append((f"`FAAL_{name.upper()}`", default, field.description or ""))
    return (
        HEADER
        + "# Settings\n\nYou set up the web service and the workers by environment variables. Each variable has a default, so "
        "`make serve` needs none.\nA process reads them once, when it starts. The library and the command `faal` read none of "
        "them.\n\n[Deploy](../how-to/deploy.md) says which variables several machines must share.\n\n"
        + table(("variable", "default", "meaning"), rows)
    )


def problems_page() -> str:
    """Return the tables of all codes: those that answer requests, and those in the errors of jobs and uploads."""
    parts = [
        HEADER,
        (
            "# Problems\n\n[Read a problem](../how-to/problems.md) shows the body that carries these codes. The service "
            "shows each at `/problems/<code>`.\n"
        ),
    ]
    for section in SECTIONS:
        rows = [
            (f"`{code}`", *_status_cell(one), one.title, one.cause, one.remedy)
            for code, one in section.explanations.items()
        ]
        statuses = ("status",) if len(rows[0]) > 4 else ()
        parts.append(f"\n## {section.heading}\n\n{section.introduction}\n\n")
        parts.append(table(("code", *statuses, "title", "cause", "what to do"), rows))
    return "".join(parts)


def _status_cell(explanation: Explanation) -> tuple[str, ...]:
    """Return the HTTP status of a problem as a cell; no cell for the error of a job."""
    return (str(explanation.status.value),) if isinstance(explanation, ProblemExplanation) else ()


def extras_page() -> str:
    """Return the table of the extras of the package, each with the comment above it in pyproject.toml."""
    text = (ROOT / "pyproject.toml").read_text("utf-8")
    extras = tomllib.loads(text)["project"]["optional-dependencies"]
    purposes = {name: purpose for purpose, name in re.findall(r"^# (.*)\n(\w+) = \[", text, re.MULTILINE)}
    public = list(extras)[: list(extras).index("all") + 1]  # the later ones are for the service and for development
    rows = [
        (f"`{name}`", purposes[name], ", ".join(f"`{requirement}`" for requirement in extras[name])) for name in public
    ]
    return (
        HEADER + "# Extras\n\n`pip install 'faal[cli,client]'` installs the package with two extras. "
        "[Install](../how-to/install.md) says which ones a task needs.\n"
        "`make test-oldest` runs the tests of the library with all lower bounds.\n\n"
        + table(("extra", "purpose", "packages"), rows)
    )


def report_page() -> str:
    """Return a section for each type in reports. Raises: SystemExit if a field has no description."""
    notes = tomllib.loads(NOTES.read_text("utf-8"))
    types: dict[str, Schema] = {}
    for document in REPORTS:
        schema = document.model_json_schema(mode="serialization")
        types |= {document.__name__: schema, **schema["$defs"]}
    types = {name: inline_enumerations(schema, types) for name, schema in types.items() if "properties" in schema}
    unknown = [
        f"{name}.{field}" for name, fields in notes.items() for field in fields if field not in fields_of(types, name)
    ]
    if unknown:
        raise SystemExit(f"{NOTES.name} explains fields that no report has: {', '.join(unknown)}")
    first = tuple(document.__name__ for document in REPORTS)
    order = [*first, *sorted(types.keys() - first)]
    return (
        HEADER
        + "# Report fields\n\n[Read a report](../how-to/reports.md) is the introduction to this page. `kind` distinguishes "
        "the documents:\n"
        + ", ".join(f"[{name}](#{name.lower()})" for name in first)
        + ".\n"
        + "".join(section(name, types[name], notes.get(name, {})) for name in order)
    )


def inline_enumerations(schema: Any, types: Mapping[str, Schema]) -> Any:  # noqa: ANN401 - JSON
    """Return the schema with enumerations in place of references to them."""
    if isinstance(schema, list):
        return [inline_enumerations(inner, types) for inner in schema]
    if not isinstance(schema, dict):
        return schema
    name = str(schema.get("$ref", "")).rpartition("/")[2]
    if name and "properties" not in types[name]:
        return {key: value for key, value in schema.items() if key != "$ref"} | {"enum": types[name]["enum"]}
    return {key: inline_enumerations(value, types) for key, value in schema.items() if key != "$defs"}


def fields_of(types: Mapping[str, Schema], name: str) -> Iterable[str]:
    """Return the names of a type's fields; none for an unknown type."""
    properties: Mapping[str, Any] = types.get(name, {}).get("properties", {})
    return properties


def section(name: str, schema: Schema, notes: Mapping[str, str]) -> str:
    """Return the section of one type: its docstring, then a row for each field. Raises: SystemExit as `report_page`."""
    rows = []
    for field, described in schema["properties"].items():
        fixed = "const" in described
        meaning = sentences(described.get("description"), notes.get(field))
        if not (meaning or fixed):
            raise SystemExit(f"{name}.{field} has no description, neither in the code nor in {NOTES.name}")
        rows.append(
            (
                f"`{field}`",
                kind(described),
                meaning if name in DOCUMENTS else sentences(meaning, default_sentence(described)),
            )
        )
    return f"\n## {name}\n\n{schema['description']}\n\n" + table(("field", "type", "meaning"), rows)


def default_sentence(schema: Schema) -> str | None:
    """Return the default of a field as text; None if the field has none, or one of many parts."""
    default = schema.get("default", ())
    parts = default if isinstance(default, list) else [default]
    if "const" in schema or default == () or any(isinstance(part, dict) for part in parts):
        return None
    return f"Default: `{json.dumps(default)}`"


def sentences(*texts: str | None) -> str:
    """Return the texts as sentences, each with a capital and a full stop."""
    given = [
        text[0].upper() + text[1:] if text and text.split()[0].isascii() and text.split()[0].isalpha() else text
        for text in texts
        if text
    ]
    return " ".join(text if text.endswith((".", "…")) else f"{text}." for text in given)


def kind(schema: Schema) -> str:
    """Return the type that a JSON schema describes, in words, with links to the sections of documents."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    for several in ("anyOf", "oneOf"):
        if several in schema:
            return " or ".join(dict.fromkeys(kind(one) for one in schema[several]))
    if "const" in schema or "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema.get("enum", [schema.get("const")]))
    if schema.get("type") == "array":
        return f"list of {kind(schema['items'])}" if "items" in schema else "list"
    names = {
        "string": "text",
        "number": "number",
        "integer": "whole number",
        "boolean": "true or false",
        "null": "null",
    }
    text = names.get(schema.get("type", ""), "object")
    return "time" if schema.get("format") == "date-time" else text


def layers_page() -> str:
    """Return the layers of the contracts, from top to bottom."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["importlinter"]["contracts"]
    forbidden = [one for one in contracts if one["type"] == "forbidden"]
    parts = [
        HEADER,
        "# Layers\n\nA module imports from the layers below its own. Modules on one line do not import each other.\n",
    ]
    for contract in contracts:
        if contract["type"] == "layers":
            inside = f", inside `{contract['containers'][0]}`" if "containers" in contract else ""
            parts.append(f"\n## {contract['name']}{inside}\n\n```text\n" + "\n".join(contract["layers"]) + "\n```\n")
    parts.append("\n## Further rules\n\n")
    parts += [f"- {contract['name']}: {', '.join(packages(contract))}.\n" for contract in forbidden]
    parts.append("\nThe contracts in `pyproject.toml` state these rules, and `make check` and the tests check them.\n")
    return "".join(parts)


def packages(contract: Mapping[str, Any]) -> Iterator[str]:
    """Yield the modules that a contract forbids, in backticks."""
    yield from (f"`{name}`" for name in contract["forbidden_modules"])


def states_page() -> str:
    """Return the moves of jobs between their states."""
    rows = (
        (f"`{verb}`", ", ".join(f"`{state}`" for state in JobState if state in move.sources), f"`{move.target}`")
        for verb, move in MOVES.items()
    )
    final = ", ".join(f"`{state}`" for state in JobState if state in FINAL)
    rule = f"No move leaves {final}. Each move is one guarded UPDATE (`jobs/moves.py`)."
    return f"{HEADER}# Job states\n\n{rule}\n\n" + table(("move", "from", "to"), rows)


def table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    """Return a Markdown table. A `|` in a cell is escaped."""
    lines = [head, ("---",) * len(head), *(tuple(cell.replace("|", "\\|") for cell in row) for row in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


if __name__ == "__main__":
    for path, text in pages().items():
        path.write_text(text, "utf-8")
        print(f"wrote {path.relative_to(ROOT)}")
