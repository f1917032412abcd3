"""Importing the library before torch makes OpenMP's threads wait without long spinning, unless the user has decided."""

import os
import subprocess
import sys

import pytest

PRINT = "import os, sys; {before}; import faal_core; print(os.environ.get('GOMP_SPINCOUNT'))"


@pytest.mark.parametrize(
    ("before", "variables", "count"),
    [
        ("pass", {}, "1000"),
        ("pass", {"GOMP_SPINCOUNT": "7"}, "7"),
        ("pass", {"OMP_WAIT_POLICY": "active"}, "None"),
        ("sys.modules['torch'] = None", {}, "None"),
    ],
)
def test_spinning_is_short_by_default(before: str, variables: dict[str, str], count: str) -> None:
    """The variable is set where torch is not loaded yet and the user has set neither it nor the policy."""
    unset = {name: value for name, value in os.environ.items() if name not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    command = [sys.executable, "-c", PRINT.format(before=before)]
    result = subprocess.run(command, env=unset | variables, check=True, capture_output=True, text=True)
    assert result.stdout.strip() == count
