"""The web process stays light."""

import subprocess
import sys


def test_the_web_process_imports_no_torch() -> None:
    """Neither torch nor the chart engine is loaded by the web application before a page needs the latter."""
    program = "import api.app, sys; print([name for name in ('torch', 'altair', 'vl_convert') if name in sys.modules])"
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"
