"""Write faal_client/client.py, the client for synchronous code, from faal_client/async_client.py; a test compares the two."""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SOURCE, TARGET = ROOT / "faal_client/async_client.py", ROOT / "faal_client/client.py"
REPLACEMENTS = {
    r'\A""".*?"""': '"""The client for synchronous code. `scripts/write_sync_client.py` generates it from `async_client.py`."""',
    r"an `async with` block": "a `with` block",
    r"import anyio\nimport anyio\.to_thread\n": "",
    r"import json\n": "import json\nimport time\n",
    r"anyio\.to_thread\.run_sync\((\S+?)(?:, |(?=\)))": r"\1(",
    r"anyio\.sleep": "time.sleep",
    r"\basync (?=def |for |with )|\bawait ": "",
    r"\bAsync(?=Client\b|Listing\b|Iterator\b|HTTPTransport\b)": "",
    r"\b__a(?=iter__|enter__|exit__)": "__",
    r"\ba(?=(close|read|iter_bytes|iter_lines)\()": "",
}


def make_sync(source: str) -> str:
    """Return the module for synchronous code, formatted."""
    for pattern, replacement in REPLACEMENTS.items():
        source = re.sub(pattern, replacement, source, flags=re.DOTALL)
    for command in (["check", "--select", "I", "--fix"], ["format"]):
        ruff: list[str | Path] = [sys.executable, "-m", "ruff", *command, "--quiet", "--stdin-filename", TARGET, "-"]
        source = subprocess.run(ruff, input=source, capture_output=True, text=True, check=True, cwd=ROOT).stdout
    return source


if __name__ == "__main__":
    TARGET.write_text(make_sync(SOURCE.read_text("utf-8")), "utf-8")
