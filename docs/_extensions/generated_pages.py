"""Write the parts of the reference that are too long to commit: the command line's options, and the HTTP API."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import typer
import typer.cli
from sphinx.application import Sphinx

from faal_core.cli.commands import app as faal
from scripts.write_reference import kind, sentences, table

ROOT = Path(__file__).resolve().parents[2]
_SECTION = re.compile(r"^(Raises|Source|Differs|Cost|Shape): (\S.*(?:\n +\S.*)*)$", re.MULTILINE)
SERVICE_COMMANDS = (["keys", "create"], ["keys", "list"], ["keys", "revoke"], ["check"])


def setup(app: Sphinx) -> dict[str, bool]:
    """Write the pages before Sphinx reads any."""
    app.connect("builder-inited", write)
    app.connect("autodoc-process-docstring", prepare, priority=400)  # before napoleon
    return {"parallel_read_safe": True}


def write(app: Sphinx) -> None:
    """Write both pages into a folder that git ignores."""
    folder = Path(app.srcdir, "reference/generated")
    folder.mkdir(exist_ok=True)
    (folder / "cli.md").write_text(command_line(), "utf-8")
    (folder / "http.md").write_text(http(json.loads((ROOT / "docs/openapi.json").read_text("utf-8"))), "utf-8")


def prepare(_app: Sphinx, what: str, _name: str, _of: object, _options: object, lines: list[str]) -> None:
    """Make paragraphs of sections that begin on the line of their name, such as `Raises: OSError`.

    Docstrings of modules are removed: their trees of errors are drawn for the terminal, and the members follow anyway.
    """
    text = "" if what == "module" else "\n".join(lines)
    lines[:] = _SECTION.sub(lambda match: f"\n**{match[1]}:** {' '.join(match[2].split())}\n", text).splitlines()


def command_line() -> str:
    """Return the options of `faal`, as typer writes them, and the help of `faal-service`."""
    command = typer.main.get_command(faal)
    options = typer.cli.get_docs_for_click(obj=command, ctx=typer.Context(command), name="faal")
    parts = [options.partition("\n")[2]]
    for arguments in SERVICE_COMMANDS:
        program = (
            f"import sys; sys.argv[:] = ['faal-service', *{arguments}, '--help']; from api.commands import main; main()"
        )
        help_ = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
        parts.append(f"\n## `faal-service {' '.join(arguments)}`\n\n```text\n{help_.stdout}```\n")
    return "".join(parts)


def http(document: Mapping[str, Any]) -> str:
    """Return a section for each operation of an OpenAPI document, then one for each type of body."""
    operations = (
        operation(method, path, described)
        for path, methods in document["paths"].items()
        for method, described in methods.items()
    )
    bodies = (body(name, schema) for name, schema in sorted(document["components"]["schemas"].items()))
    return "".join([*operations, "## Bodies\n\n", *bodies])


def operation(method: str, path: str, described: Mapping[str, Any]) -> str:
    """Return the section of one operation: parameters, body and answers."""
    text = described.get("description", described.get("summary", ""))
    parts = [f"## `{method.upper()} {path}`\n\n{text}\n\n"]
    rows = [
        (f"`{one['name']}`", one["in"], kind(one["schema"]), sentences(one.get("description")))
        for one in described.get("parameters", ())
    ]
    if rows:
        parts.append(table(("parameter", "in", "type", "meaning"), rows) + "\n")
    for media, content in described.get("requestBody", {}).get("content", {}).items():
        parts.append(f"Body: `{media}`, {kind(content.get('schema', {}))}\n\n")
    answers = ((f"`{status}`", *answer(one)) for status, one in described["responses"].items())
    return "".join([*parts, table(("status", "body", "meaning"), answers), "\n"])


def answer(described: Mapping[str, Any]) -> Iterator[str]:
    """Yield the types of an answer's body, and its description."""
    contents = described.get("content", {}).items()
    yield ", ".join(f"`{media}` {kind(content.get('schema', {}))}" for media, content in contents)
    yield sentences(described.get("description"))


def body(name: str, schema: Mapping[str, Any]) -> str:
    """Return the section of one type of body."""
    rows = [
        (f"`{field}`", kind(described), sentences(described.get("description")))
        for field, described in schema.get("properties", {}).items()
    ]
    fields = table(("field", "type", "meaning"), rows) if rows else f"One of {kind(schema)}.\n"
    return f"### {name}\n\n{schema.get('description', '')}\n\n{fields}\n"
