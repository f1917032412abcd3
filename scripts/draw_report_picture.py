"""Draw docs/report.png, the top of a report's page, with Chromium.

After `make demo`: `python scripts/draw_report_picture.py demo-out/report.json`
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from faal_core.reports import html
from faal_core.results.reading import read_report

TARGET = Path(__file__).resolve().parents[1] / "docs/report.png"
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
WIDTH, HEIGHT = 1100, 1500  # pixels


def find_browser() -> str:
    """Return the path of Chromium. Raises: SystemExit where there is none."""
    paths = filter(None, map(shutil.which, BROWSERS))
    return next(paths, None) or sys.exit(
        f"No Chromium was found (looked for {', '.join(BROWSERS)}). Install it, for example with `apt-get install chromium`."
    )


def draw(report: Path, target: Path) -> None:
    """Write a picture of the top of the report's page. Raises: SystemExit, pydantic.ValidationError, CalledProcessError."""
    program = find_browser()
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder, "report.html")
        page.write_text(html.render(read_report(report.read_bytes())), "utf-8")
        options = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-background-networking",
            "--hide-scrollbars",
        ]
        where = [f"--user-data-dir={folder}", f"--screenshot={target}", f"--window-size={WIDTH},{HEIGHT}"]
        subprocess.run([program, *options, *where, page.as_uri()], check=True, capture_output=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Draw docs/report.png from a report.")
    parser.add_argument("report", type=Path, help="a report.json, such as `make demo` writes")
    parser.add_argument("--output", type=Path, default=TARGET)
    arguments = parser.parse_args()
    draw(arguments.report, arguments.output.resolve())
    print(f"wrote {arguments.output}")
