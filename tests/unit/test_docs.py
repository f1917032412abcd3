"""The documentation agrees with the code: generated pages, settings, commands and links."""

import pydoc
import re
from pathlib import Path
from typing import Any

import pytest
import typer

from faal_core.cli.commands import app
from jobs.settings import Settings
from scripts import write_reference, write_results

ROOT = Path(__file__).parents[2]
PAGES = [
    page
    for pattern in ("*.md", "docs/**/*.md", "benchmarks/notes/*.md")
    for page in ROOT.glob(pattern)
    if page.parent.name != "generated"
]
DOCUMENTED = re.compile(r"faal (audit|finetune|compare|gate|pack|verify|sign|create-key|export \w+)\b([^\n`]*)")


@pytest.mark.parametrize("page", sorted(write_reference.pages()), ids=lambda page: page.stem)
def test_written_pages_are_those_of_the_code(page: Path):
    """The committed reference is the output of scripts/write_reference.py; run it after a change of its sources."""
    assert page.read_text("utf-8") == write_reference.pages()[page]


def test_the_tables_are_those_of_the_measurements():
    """docs/results/fairness.md has the tables that scripts/write_results.py makes of benchmarks/results."""
    page = write_results.PAGE.read_text("utf-8")
    assert page.count("<!-- begin ") == len(re.findall(r"<!-- end \w+ -->", page)) > 0
    assert write_results.with_tables(page) == page


@pytest.mark.parametrize("name", ["NoSuchReport", "AuditReport"])
def test_a_note_on_a_field_that_is_gone_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str):
    """A note on an unknown field stops the script, which names the field."""
    (tmp_path / "notes.toml").write_text(f'[{name}]\nno_field = "x"\n')
    monkeypatch.setattr(write_reference, "NOTES", tmp_path / "notes.toml")
    with pytest.raises(SystemExit, match=rf"{name}\.no_field"):
        write_reference.report_page()


def test_a_field_without_any_description_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """Without the notes some fields have no description, and the script names the first."""
    (tmp_path / "notes.toml").touch()
    monkeypatch.setattr(write_reference, "NOTES", tmp_path / "notes.toml")
    with pytest.raises(SystemExit, match=r"AuditReport\.created_at has no description"):
        write_reference.report_page()


def test_every_page_is_in_the_contents():
    """Each page of docs/ is in a table of contents; Sphinx would warn, and this test needs no build."""
    pages_listed = set(re.findall(r"^([a-z-]+/[a-z-]+)$", (ROOT / "docs/index.md").read_text("utf-8"), re.MULTILINE))
    pages = {str(page.relative_to(ROOT / "docs").with_suffix("")) for page in ROOT.glob("docs/[a-z]*/*.md")}
    assert pages_listed == {page for page in pages if not page.startswith("decisions/0")}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_named_settings_exist(page: Path):
    """No page, and no file that configures the service, names a variable that the code does not read."""
    settings_read = {f"FAAL_{name.upper()}" for name in Settings.model_fields} | {
        "FAAL_URL",
        "FAAL_API_KEY",
        "FAAL_KEY_PASSPHRASE",
    }  # the client's, and the command's
    assert set(re.findall(r"\bFAAL_[A-Z_]*[A-Z]", page.read_text("utf-8"))) <= settings_read


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path):
    """The target of every relative link, and every file named in running text, exists."""
    text = page.read_text("utf-8")
    links = {page.parent / target for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", text)}
    names_in_files = {
        ROOT / target
        for target in re.findall(
            r"\b(?:docs|tests|benchmarks|scripts|api|jobs|worker|faal_core)/[\w/]+\.(?:md|py|json)\b", text
        )
    }
    assert sorted(str(path.relative_to(ROOT)) for path in links | names_in_files if not path.exists()) == []


def test_make_targets_exist():
    """Every `make` command in a page is a target, and every target has a description."""
    makefile = (ROOT / "Makefile").read_text("utf-8")
    targets = set(re.findall(r"^([a-z-]+):.* ## ", makefile, re.MULTILINE))
    phony = re.search(r"^\.PHONY: (.+)$", makefile, re.MULTILINE)
    assert phony is not None
    assert targets == set(phony[1].split())
    targets_used = {
        target
        for page in PAGES
        for target in re.findall(r"(?:`|^)make ([a-z-]+)", page.read_text("utf-8"), re.MULTILINE)
    }
    assert targets_used <= targets


def test_the_python_reference_names_what_there_is() -> None:
    """Each class, function and module of the Python reference can be imported."""
    page = (ROOT / "docs/reference/python.md").read_text("utf-8")
    targets = re.findall(r"auto(?:class|function|module|exception|data):: *([\w.]+)", page)
    assert targets
    for target in targets:
        assert pydoc.locate(target) is not None, target


def test_options_in_the_docs_exist() -> None:
    """Each option that the docs give to one of these commands is an option of the command."""
    group: Any = typer.main.get_command(app)
    for page in PAGES:
        for command, line in DOCUMENTED.findall(page.read_text("utf-8")):
            own = group
            for name in command.split():
                own = own.commands[name]
            options = {option for parameter in own.params for option in parameter.opts}
            assert set(re.findall(r"(?<!\S)--[a-z-]+", line)) - {"--help"} <= options, (
                f"{page.name}: faal {command}{line}"
            )
