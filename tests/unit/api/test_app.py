"""The web process stays light."""

import subprocess
import sys


def test_the_web_process_imports_no_torch() -> None:
    """The web application loads neither torch nor, before a request needs them, the packages of charts and packs."""
    names = ("torch", "altair", "vl_convert", "cryptography", "pyarrow", "scipy")
    program = f"import api.app, sys; print([name for name in {names} if name in sys.modules])"
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"
