"""The command `faal`. This module needs no extra: without them, the command says which one to install."""

import sys

_OF_EXTRA_CLI = frozenset(
    ("PIL", "jaxtyping", "jinja2", "rich", "safetensors", "scipy", "torch", "torchvision", "typer")
)


def main() -> None:
    """Run `faal`. Raises: SystemExit."""
    try:
        from faal_core.cli.running import run

        run()
    except ModuleNotFoundError as missing:
        package = (missing.name or "").partition(".")[0]
        if package not in _OF_EXTRA_CLI:
            raise
        sys.exit(f"faal: the command needs {package}, which is not installed. Run pip install 'faal[cli]'.")
