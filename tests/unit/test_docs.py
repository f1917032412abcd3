"""The documentation says what the code does: settings, commands, and links that lead somewhere."""

import re
from pathlib import Path

import pytest
from pydantic_core import PydanticUndefined

from jobs.settings import Settings

ROOT = Path(__file__).parents[2]
PAGES = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]


def test_every_setting_is_documented():
    """docs/settings.md has one row for each setting, in order, with its default and its own words."""
    rows = []
    for name, field in Settings.model_fields.items():
        default = "–" if field.default in (None, PydanticUndefined) else f"`{field.default}`"
        rows.append(f"| `FAAL_{name.upper()}` | {default} | {field.description} |")
    page = (ROOT / "docs/settings.md").read_text("utf-8").splitlines()
    assert [line for line in page if line.startswith("| `FAAL_")] == rows


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_named_settings_exist(page: Path):
    """No page, and no file that sets the service up, names a variable that is not read."""
    known = {f"FAAL_{name.upper()}" for name in Settings.model_fields}
    assert set(re.findall(r"\bFAAL_[A-Z_]*[A-Z]", page.read_text("utf-8"))) <= known


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path):
    """Every relative link, and every file that is named in running text, is there."""
    text = page.read_text("utf-8")
    links = {page.parent / target for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", text)}
    named = {
        ROOT / target
        for target in re.findall(
            r"\b(?:docs|tests|benchmarks|scripts|api|jobs|worker|faal_core)/[\w/]+\.(?:md|py|json)\b", text
        )
    }
    assert sorted(str(path.relative_to(ROOT)) for path in links | named if not path.exists()) == []


def test_make_targets_exist():
    """Every `make` command in a page is a target, and every target says what it does."""
    makefile = (ROOT / "Makefile").read_text("utf-8")
    targets = set(re.findall(r"^([a-z-]+):.* ## ", makefile, re.MULTILINE))
    phony = re.search(r"^\.PHONY: (.+)$", makefile, re.MULTILINE)
    assert phony is not None
    assert targets == set(phony[1].split())
    used = {
        target
        for page in PAGES
        for target in re.findall(r"(?:`|^)make ([a-z-]+)", page.read_text("utf-8"), re.MULTILINE)
    }
    assert used <= targets
