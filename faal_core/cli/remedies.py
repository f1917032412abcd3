"""Errors in terms of the command line: which option or command helps. The library itself knows no options."""

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

import typer

from faal_core.cli.spec_fields import SPECS, command_spec, spec_fields
from faal_core.errors import FaalError

REMEDIES = {
    "adversarial": "Pass --adversarial FILE.npy, or --dataset to predict only the images without an attack.",
    "architecture": "Pass --architecture NAME --num-classes N --mean … --std …; `faal catalog` lists the names.",
    "baseline": "Pass --baseline FILE with the report.json of an earlier audit of the same images. "
    "A first audit can be its own baseline: name its own report.",
    "cache": "Pass --cache DIR with a folder on a disk that has room for the decoded images.",
    "class-names": "Or state the network's order with --class-names.",
    "data-root": "Pass --data-root DIR, or --download to fetch it.",
    "gate-result": "Run `faal gate REPORT --policy FILE --baseline EARLIER --json > gate.json`, "
    "and pass --gate-result gate.json.",
    "network": "Pass --network FILE.py:NAME with the code that builds it.",
    "part": "Choose another part with --part.",
    "resize": "Pass --resize N, and --crop N where their shapes differ too.",
    "transfer": "Pass its weights with --transfer-from FILE.",
}

Arguments = ParamSpec("Arguments")
Status = TypeVar("Status", bound=int | None)


def in_terms_of_options(command: Callable[Arguments, Status]) -> Callable[Arguments, Status]:
    """Return the command, whose errors name the option that helps. Raises: what the command raises."""

    @wraps(command)
    def explained(*args: Arguments.args, **options: Arguments.kwargs) -> Status:
        try:
            return command(*args, **options)
        except FaalError as error:
            if error.remedy is None:
                raise
            raise type(error)(f"{error.message} {REMEDIES[error.remedy]}") from error

    return explained


def explain_usage(error: typer.TyperException) -> str:
    """Return what is wrong with the arguments, and what helps; "" where the help was printed instead."""
    message, context = error.format_message().replace("Value error, ", ""), getattr(error, "ctx", None)
    if not message or context is None:
        return message
    if paths := _fields_called(getattr(error, "option_name", ""), context.info_name):
        message = f"{error.message}. Pass --set {' or --set '.join(f'{path}=VALUE' for path in paths)}"
    return f"{message.rstrip('.')}. Run `{context.command_path} --help` for all options."


def _fields_called(option: str, command: str) -> list[str]:
    """Return the paths of the fields of the command's spec that have the option's name."""
    paths = spec_fields(command_spec(command)) if command in SPECS else ()
    name = option.lstrip("-").replace("-", "_")
    named = [path for path in paths if path.rpartition(".")[2] == name]
    return [f"{path}.type" if f"{path}.type" in paths else path for path in named]
