"""A script draws the README's picture from a report."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from tests.sample_reports import sample_finetune

SCRIPT = Path(__file__).parents[2] / "scripts/draw_report_picture.py"


def run_script(report: Path, picture: Path, path: str) -> subprocess.CompletedProcess[str]:
    """Run the script, with programs searched in that path."""
    command = [sys.executable, str(SCRIPT), str(report), "--output", str(picture)]
    return subprocess.run(command, env={**os.environ, "PATH": path}, capture_output=True, text=True, check=False)


def test_without_a_browser_the_script_says_what_to_install(tmp_path: Path) -> None:
    """Without a browser the script exits with 1, names the browser that it needs, and writes no file."""
    report, picture = tmp_path / "report.json", tmp_path / "report.png"
    report.write_text(sample_finetune().model_dump_json())
    process = run_script(report, picture, str(tmp_path))
    assert process.returncode == 1
    assert "No Chromium was found" in process.stderr
    assert "apt-get install chromium" in process.stderr
    assert not picture.exists()


@pytest.mark.browser
@pytest.mark.skipif(shutil.which("chromium") is None, reason="needs Chromium")
@pytest.mark.slow
def test_the_picture_is_the_beginning_of_the_page(tmp_path: Path) -> None:
    """The picture has the size of the committed one and is not blank."""
    report, picture = tmp_path / "report.json", tmp_path / "report.png"
    report.write_text(sample_finetune().model_dump_json())
    assert run_script(report, picture, os.environ["PATH"]).returncode == 0
    with Image.open(picture) as new_picture, Image.open(SCRIPT.parents[1] / "docs/report.png") as committed_picture:
        assert new_picture.size == committed_picture.size
        assert len(new_picture.convert("RGB").getcolors(2**24)) > 100
