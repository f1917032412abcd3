"""A page as a browser lays it out at a given width."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


def measure_page(page: str, folder: Path, width: int, measure: str) -> Any:
    """Return the JSON that a script writes into the title of a page, which is laid out in a window of that width."""
    without_policy = re.sub(r"<meta http-equiv[^>]*>", "", page)  # which lets no script run
    file = folder / "page.html"
    file.write_text(without_policy.replace("</main>", f"</main><script>{measure}</script>"))
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--hide-scrollbars"]
    frame = f'<iframe src="{file.name}" width="{width}" height="900"></iframe>'
    assert CHROMIUM is not None
    command = [
        CHROMIUM,
        *options,
        "--allow-file-access-from-files",
        "--dump-dom",
        f"--user-data-dir={folder / 'profile'}",
    ]
    script = "<script>onload = () => { document.title = frames[0].document.title }</script>"
    (folder / "frame.html").write_text(f"<!doctype html><title></title><body style='margin:0'>{frame}{script}")
    process = subprocess.run(
        [*command, (folder / "frame.html").as_uri()], capture_output=True, text=True, check=True, timeout=120
    )
    (title,) = re.findall(r"<title>(.*?)</title>", process.stdout, re.DOTALL)
    return json.loads(title)
