"""The pages in a real browser: their policy permits their own scripts and styles, and they follow a job by themselves."""

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.service.processes import wait_until

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
VIRTUAL_SECONDS = 200  # a page is looked at; they pass as fast as its requests are answered

pytestmark = [pytest.mark.browser, pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")]


def look(address: str, folder: Path) -> subprocess.Popen[str]:
    """Run a browser that loads the page, and after `VIRTUAL_SECONDS` writes its elements to stdout and its errors to stderr."""
    assert CHROMIUM is not None
    quiet = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-background-networking",
        "--disable-dev-shm-usage",
    ]
    options = ["--enable-logging=stderr", "--dump-dom", f"--virtual-time-budget={VIRTUAL_SECONDS * 1000}"]
    command = [CHROMIUM, *quiet, *options, f"--user-data-dir={folder}"]
    return subprocess.Popen([*command, address], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_the_page_of_a_job_follows_it(own_web, tmp_path) -> None:
    """A page that was loaded while the job waited shows, without a reload, that the job was cancelled."""
    job = own_web.audit()
    address = f"/ui/jobs/{job}"
    with look(f"{own_web.client.base_url}{address}", tmp_path) as browser:
        wait_until(lambda: f"GET {address} " in own_web.process.log.read_text(), 30)
        own_web.client.post(f"/jobs/{job}/cancel")
        elements, complaints = browser.communicate(timeout=60)
    log = own_web.process.log.read_text()
    assert (log.count(f"GET {address} "), log.count(f"GET {address}/course?") > 0) == (1, True), complaints
    assert 'class="status cancelled"' in elements
    assert "Content Security Policy" not in complaints


def test_nothing_on_a_page_is_refused_by_its_policy(own_web, tmp_path) -> None:
    """The browser reports no violation on any page: styles, scripts and drawings, also of the report, are permitted."""
    job = own_web.audit()
    own_web.run(job)
    own_web.succeed(job)
    shared = own_web.client.post(f"/jobs/{job}/links").json()["url"].removeprefix(str(own_web.client.base_url))
    pages = ("/", "/ui/models", "/ui/datasets", f"/ui/jobs/{job}", f"/ui/jobs/{job}/share", f"/ui/jobs/{job}/gate")
    for address in (*pages, f"/jobs/{job}/report?format=html", shared):
        with look(f"{own_web.client.base_url}{address}", tmp_path) as browser:
            elements, complaints = browser.communicate(timeout=60)
        assert "</main>" in elements
        assert "Content Security Policy" not in complaints, address
        assert "CONSOLE" not in complaints, complaints
