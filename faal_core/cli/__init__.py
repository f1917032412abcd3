"""The command `faal`: arguments → specs → files. Torch and the specs are imported by the commands that need them.

Exit codes: 0 done; 1 failed, with a message and its code; 2 wrong arguments; 3 `--require-worst` is not met; 4 a fine-tuning kept
the original weights; 5 it made some accuracy significantly worse and the worst class no better; 130 interrupted.
"""

import sys

from faal_core.cli.commands import app
from faal_core.cli.results import Success
from faal_core.errors import FaalError


def main() -> None:
    """Run `faal`. Raises: SystemExit with one of the codes above, on errors after a line on standard error."""
    success = Success()
    try:
        app(prog_name="faal", obj=success)
    except SystemExit as end:
        sys.exit(end.code or success.status)
    except FaalError as error:
        _complain(f"{error.message} ({error.code})")
        sys.exit(1)
    except OSError as error:
        _complain(str(error))
        sys.exit(1)


def _complain(message: str) -> None:
    """Write the message to standard error in one line: it may quote names from files of strangers."""
    from faal_core.reports.wording import shown

    sys.stderr.write(f"faal: {shown(message)}\n")
