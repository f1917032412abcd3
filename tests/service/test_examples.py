"""Every example of the README and of the tutorials runs as written, with fewer images and a shorter training."""

import json
import os
import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from faal_core.datasets import load
from tests.command_line import run_faal
from tests.service.processes import Site

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs/tutorials").glob("*.md"))]
SERVICE = "localhost:8000"
FEW = "20"  # test images, in place of the hundreds of the text
SMALL = {"train": 300, "test": 100}  # images of each part that a fine-tuning gets
SHORT = {"training": {"learning_rates": [0.002], "attack": {"steps": 1}}}
WAITS = 240  # seconds on a busy machine, of one command or for a state that a page says to wait for
RECORD = """#!/bin/sh
printf '%s\\0' "$@" >> commands
echo >> commands
"""


def blocks(page: Path) -> list[tuple[str, str]]:
    """Return language and text of each example of a page, in order."""
    return re.findall(r"^```(bash|python)\n(.*?)^```$", page.read_text("utf-8"), re.DOTALL | re.MULTILINE)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Change into a folder to run examples in, with the bundled files and a command `faal` that records its arguments."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/faal").write_text(RECORD)
    (tmp_path / "bin/faal").chmod(0o755)
    (tmp_path / "short.json").write_text(json.dumps(SHORT))
    write_small(tmp_path / "small.npz")
    (tmp_path / "faal_core").symlink_to(ROOT / "faal_core")
    return tmp_path


def write_small(path: Path) -> None:
    """Write some of the bundled images as an archive of arrays."""
    arrays = {}
    for part, count in SMALL.items():
        data = load("fashion-mnist-subset", part)
        data = data.take(data.stratified(count, 0))
        arrays |= {f"{part}_images": data.images.numpy(), f"{part}_labels": data.labels.numpy()}
    np.savez(path, **arrays, class_names=np.array(data.class_names))


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Return the address of a service with a worker."""
    site = Site(tmp_path_factory.mktemp("site"))
    site.api()
    site.worker()
    yield f"localhost:{site.settings.port}"
    site.close()


def run(script: str) -> str:
    """Return the output of a shell script. Raises: AssertionError with its errors, if it fails."""
    done = subprocess.run(["bash", "-euc", script], capture_output=True, text=True, check=False, timeout=WAITS)
    assert done.returncode == 0, f"{script}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def ask(command: str, ids: dict[str, str]) -> None:
    """Run a `curl` of a page with the ids of earlier answers; repeat it while the service asks to wait."""
    command = re.sub(r"(model|job)_…", lambda match: ids[match[1]], command)
    assert "…" not in command
    deadline = time.monotonic() + WAITS
    while True:
        output = run(command.replace("curl ", "curl --silent --show-error ", 1))
        answer = json.loads(output) if output else {}
        if answer.get("status") not in ("validating", "queued", "running") or " -d " in command or "-F" in command:
            break
        assert time.monotonic() < deadline, output
        time.sleep(0.3)
    assert answer.get("status") not in (*range(400, 600), "failed", "rejected"), output
    ids |= {answer["object"]: answer["id"]} if "object" in answer else {}


def commands(page: Path) -> str:
    """Return the commands of a page that are no requests."""
    return "".join(text for language, text in blocks(page) if language == "bash" and "curl" not in text)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("page", list(filter(commands, PAGES)), ids=lambda page: page.stem)
def test_commands(page: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The commands of `faal` succeed, in the order of the page, and leave the reports that it announces."""
    run(commands(page))
    for line in (folder / "commands").read_text().splitlines():
        name, *options = line.split("\0")[:-1]
        smaller = {
            "audit": ["--images", FEW],
            "finetune": ["--images", FEW, "--dataset", "small.npz", "--spec", "short.json"],
        }
        status = run_faal(monkeypatch, folder, name, *options, *smaller.get(name, []))
        assert status == 0 or (name, status) in (("finetune", 4), ("gate", 6)), line  # so few images decide little
    assert json.loads((folder / "fairer/report.json").read_text())["kind"] == "finetune"
    assert "<html" in (folder / "audit/report.html").read_text()


@pytest.mark.timeout(600)
@pytest.mark.parametrize("page", [page for page in PAGES if page.stem != "first-audit"], ids=lambda page: page.stem)
def test_requests_and_python(page: Path, folder: Path, request: pytest.FixtureRequest) -> None:
    """Requests of the page are answered as it states, and its Python runs as one program, with the service where it needs one."""
    examples = [block for block in blocks(page) if block[0] == "python" or "curl" in block[1]]
    needs_service = any(SERVICE in text for _, text in examples)
    address = request.getfixturevalue("address") if needs_service else ""
    ids: dict[str, str] = {}
    for language, text in examples:
        for command in text.splitlines() if language == "bash" else ():
            ask(command.replace(SERVICE, address), ids)
    program = "\n".join(text for language, text in examples if language == "python")
    exec(compile(program.replace(SERVICE, address), page.name, "exec"), {"__name__": "__main__"})
    if needs_service:
        assert "<html" in (folder / "report.html").read_text()


def test_all_pages_have_examples() -> None:
    """Every page has examples that run, so the tests above cannot pass for lack of examples."""
    counts = {page.stem: len(blocks(page)) for page in PAGES}
    assert len(counts) == 4
    assert all(count >= 3 for count in counts.values()), counts
