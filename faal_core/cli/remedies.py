"""What an error of the library means for a reader who has options: the library itself knows none."""

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec

from faal_core.errors import FaalError

REMEDIES = {
    "architecture": "Pass --architecture NAME --num-classes N --mean … --std …; `faal catalog` lists the names.",
    "class-names": "Or state the network's order with --class-names.",
    "data-root": "Pass --data-root DIR, or --download to fetch it.",
    "part": "Choose another part with --part.",
    "resize": "Pass --resize N, and --crop N where their shapes differ too.",
}

Arguments = ParamSpec("Arguments")


def in_terms_of_options(command: Callable[Arguments, None]) -> Callable[Arguments, None]:
    """Return the command, whose errors name the option that helps. Raises: what the command raises."""

    @wraps(command)
    def explained(*args: Arguments.args, **options: Arguments.kwargs) -> None:
        try:
            command(*args, **options)
        except FaalError as error:
            if error.remedy is None:
                raise
            raise type(error)(f"{error.message} {REMEDIES[error.remedy]}") from error

    return explained
