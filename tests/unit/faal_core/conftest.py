"""Fixtures of the library's tests."""

from pathlib import Path

import pytest

from tests import command_line


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with a network's weights and a data set, for the command `faal`."""
    command_line.fill(tmp_path)
    return tmp_path
