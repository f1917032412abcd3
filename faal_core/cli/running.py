"""The command `faal`: arguments → specs → files. Torch and the specs are imported by the commands that need them.

Exit codes: 0 success; 1 an error, with a message and its code; 2 wrong arguments; 3 a gate failed, `--require-worst` is not met,
or a pack is refused; 4 a fine-tuning kept the original weights; 5 a fine-tuning made some accuracy significantly worse and the
worst class no better; 6 a gate is undecided; 130 interrupted.
"""

import sys

import typer

from faal_core.cli.commands import app
from faal_core.cli.remedies import explain_usage
from faal_core.errors import FaalError


def run() -> None:
    """Run `faal`; a command returns its exit status. Raises: SystemExit, on errors after a line on standard error."""
    try:
        sys.exit(app(prog_name="faal", standalone_mode=False))
    except typer.TyperException as error:
        if message := explain_usage(error):
            _complain(message)
        sys.exit(error.exit_code)
    except FaalError as error:
        _complain(f"{error.message} ({error.code})")
        sys.exit(1)
    except OSError as error:
        _complain(str(error))
        sys.exit(1)


def _complain(message: str) -> None:
    """Write the message to standard error in one line: it may quote names from files of strangers."""
    from faal_core.reports.wording import sanitise

    sys.stderr.write(f"faal: {sanitise(message)}\n")
