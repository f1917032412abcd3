"""Check the rules of the code: imports and names."""

import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("faal_core", "faal_client", "jobs", "api", "worker", "migrations")
OWN_FOLDERS = (*PACKAGES, "tests", "benchmarks", "scripts", "docs", "examples", ".ci")
CONTRACTS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]

# For every contract, lines that break it: added to the end of a file, which is made when it is not there.
VIOLATIONS = [
    ("packages", "jobs/clock.py", "import api.problems.errors"),
    ("packages", "api/problems/errors.py", "import worker.memory"),
    ("packages", "faal_client/retries.py", "import jobs.clock"),
    ("library", "faal_core/threat_model.py", "from faal_core import specs"),
    ("library", "faal_core/novelty.py", '"""A module that no layer names."""'),
    ("torch-free-half", "faal_core/results/intervals.py", "def late() -> None:\n    import torch"),
    ("torch-free-service", "api/pages/views.py", "from faal_core.auditing import evaluator"),
    ("torch-free-supervisor", "worker/tasks.py", "from worker import assignment"),
    ("service-vocabulary", "api/pages/views.py", "from faal_core.results import class_table"),
    ("light-client", "faal_client/request_parts.py", "from faal_core import reports"),
    ("arguments", "faal_core/datasets/__init__.py", "import pydantic_settings"),
    ("database", "worker/tasks.py", "import sqlalchemy"),
    ("web", "jobs/queue.py", "import fastapi"),
    ("queue", "api/uploads/receiving.py", "import kombu"),
    ("acyclic", "api/problems/errors.py", "from api.problems import answers"),
]

BANNED_NAMES = {
    "utils",
    "helpers",
    "common",
    "misc",
    "base",
    "core",
    "manager",
    "handlers",
    "constants",
    "types",
    "data",
}

# Patterns that no file may contain. (The brackets keep this file from matching itself.)
FORBIDDEN = {
    "a path of one machine": r"(?<![\w.])/(wor[k]|home|roo[t]|Users)/|/tmp[/]venv|\.\./share[d]\b",
    "something left to do": r"\b(TO[D]O|FIX[M]E|XX[X])\b",
}
TEXT = {".py", ".md", ".toml", ".yml", ".yaml", ".html", ".css", ".mako", ".txt", ""}


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Return a copy of the packages' code that a test may change."""
    for package in PACKAGES:
        shutil.copytree(ROOT / package, tmp_path / package, ignore=_list_all_but_code)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def _list_all_but_code(folder: str, names: list[str]) -> list[str]:
    """Return the names that `shutil.copytree` ignores."""
    return [name for name in names if not (name.endswith(".py") or (Path(folder) / name).is_dir())]


def _run_lint(tree: Path, *contracts: str) -> subprocess.CompletedProcess[str]:
    """Run the import linter on the tree, for those contracts or for all."""
    command: list[str | Path] = [Path(sys.executable).with_name("lint-imports"), "--no-logo", "--no-cache"]
    options = [argument for contract in contracts for argument in ("--contract", contract)]
    return subprocess.run([*command, *options], cwd=tree, capture_output=True, text=True, check=False)


def test_import_rules_hold(tree: Path):
    """Every module imports only what the layers of docs/explanation/layers.md allow it."""
    answer = _run_lint(tree)
    assert answer.returncode == 0, answer.stdout + answer.stderr


@pytest.mark.parametrize(("contract", "file", "line"), VIOLATIONS)
def test_import_rules_can_break(tree: Path, contract: str, file: str, line: str):
    """Each contract reports an import that it forbids."""
    with (tree / file).open("a") as target:
        target.write(f"\n{line}\n")
    answer = _run_lint(tree, contract)
    assert "0 kept, 1 broken" in answer.stdout, answer.stdout + answer.stderr


def test_every_contract_is_tried():
    """Each contract has an example in VIOLATIONS."""
    assert {contract for contract, _, _ in VIOLATIONS} == {contract["id"] for contract in CONTRACTS}


@pytest.mark.parametrize("module", ["api.app", "faal_client.client", "jobs.lifecycle", "worker.app"])
def test_no_torch_in_the_process(module: str):
    """Web service, client, jobs and the supervising worker run where torch is not installed."""
    program = f"import sys, {module}; print(sorted({{'torch', 'torchvision'}} & set(sys.modules)))"
    answer = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert answer.stdout.strip() == "[]", answer.stdout + answer.stderr


def test_no_terminal_library_in_the_web_process():
    """The web service runs in an image without rich and typer; structlog uses rich only where it is installed."""
    program = "import sys; sys.modules |= dict.fromkeys(('rich', 'typer')); import api.app"
    answer = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stderr


def _own_files() -> Iterator[Path]:
    """Yield all text files of the project: those of its folders and of the root."""
    for folder in OWN_FOLDERS:
        yield from (path for path in (ROOT / folder).rglob("*") if path.is_file() and path.suffix in TEXT)
    yield from (path for path in ROOT.iterdir() if path.is_file() and path.suffix in TEXT)


def _iterate_product_files() -> Iterator[Path]:
    """Yield the Python files of all packages."""
    for package in PACKAGES:
        yield from (ROOT / package).rglob("*.py")


def test_no_module_has_a_banned_name():
    """No module or package has a banned name."""
    names = {part for path in _iterate_product_files() for part in path.relative_to(ROOT).with_suffix("").parts}
    assert names & BANNED_NAMES == set()


@pytest.mark.parametrize("name_of_rule", FORBIDDEN)
def test_no_file_has_a_forbidden_text(name_of_rule: str):
    """No file names a path of one machine, or an open task."""
    pattern = re.compile(FORBIDDEN[name_of_rule])
    lines = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()[:80]}"
        for path in _own_files()
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1)
        if pattern.search(line)
    ]
    assert lines == []
