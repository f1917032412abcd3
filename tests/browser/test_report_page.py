"""A report's page as a browser lays it out: on a phone nothing leaves the screen, and no two labels meet."""

import itertools
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from faal_core.reports import html
from tests.sample_reports import sample_audit, sample_finetune

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")

pytestmark = [pytest.mark.browser, pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")]

MEASURED = """<script>
const box = element => { const r = element.getBoundingClientRect(); return [r.left, r.top, r.right, r.bottom] };
const lanes = [...document.querySelectorAll(".lane:not(.scale)")].map(lane => [...lane.children].map(box));
document.title = JSON.stringify({width: document.documentElement.scrollWidth, seen: innerWidth, lanes});
</script>"""


def measured(page: str, folder: Path, width: int) -> dict:
    """The width of the laid-out page, that of the window, and for each class the boxes of its name, track and values."""
    without_policy = re.sub(r"<meta http-equiv[^>]*>", "", page)  # which lets no script run
    file = folder / "report.html"
    file.write_text(without_policy.replace("</main>", f"</main>{MEASURED}"))
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--hide-scrollbars"]
    frame = f'<iframe src="{file.name}" width="{width}" height="900"></iframe>'
    (folder / "frame.html").write_text(f"<!doctype html><body style='margin:0'>{frame}")
    command = [
        CHROMIUM,
        *options,
        "--allow-file-access-from-files",
        "--dump-dom",
        f"--user-data-dir={folder / 'profile'}",
    ]
    script = "<script>onload = () => { document.title = frames[0].document.title }</script>"
    (folder / "frame.html").write_text(f"<!doctype html><title></title><body style='margin:0'>{frame}{script}")
    ended = subprocess.run(
        [*command, (folder / "frame.html").as_uri()], capture_output=True, text=True, check=True, timeout=120
    )
    (title,) = re.findall(r"<title>(.*?)</title>", ended.stdout, re.DOTALL)
    return json.loads(title)


@pytest.mark.parametrize("kind", ["audit", "finetune"])
@pytest.mark.parametrize("classes", [2, 43, 100])
def test_a_phone_shows_the_whole_width_and_labels_do_not_meet(kind: str, classes: int, tmp_path: Path) -> None:
    """At 390 pixels the page is no wider than the screen; names, tracks and values of all classes have places of their own."""
    names = tuple(f"A speed limit of thirty kilometres an hour {i}" for i in range(classes))
    rates = [0.02 + 0.9 * i / classes for i in range(classes)]
    report = sample_audit(names, rates, 30, attacks="fast") if kind == "audit" else sample_finetune(names, rates, rates)
    seen = measured(html.render(report), tmp_path, 390)
    assert seen["seen"] == 390
    assert seen["width"] <= 390
    assert len(seen["lanes"]) == min(classes, 60) * (1 if kind == "audit" else 2)
    for name, track, values in seen["lanes"]:
        assert 0 <= name[0] < name[2] < track[0] < track[2] < values[0] < values[2] <= 390
        assert track[2] - track[0] > 100
    column = seen["lanes"][: min(classes, 60)]
    for above, below in itertools.pairwise(column):
        assert all(a[3] <= b[1] + 0.5 for a, b in zip(above, below, strict=True))
