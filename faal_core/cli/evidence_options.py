"""The options of `faal` about the files of a pack and about keys, and the key that they name."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from faal_core.evidence.keys import Signer

PASSPHRASE = "FAAL_KEY_PASSPHRASE"  # noqa: S105 - the name of a variable
_FORM = "The passphrase of an encrypted key is read from FAAL_KEY_PASSPHRASE, or asked for."


def file_option(text: str, *, metavar: str = "FILE", panel: str | None = None, default: str | bool = True) -> Any:  # noqa: ANN401 - as typer.Option
    """Return an option that names an existing file.

    Args:
        text: the option's help.
        default: what happens without the file, where the help shows that.
    """
    return typer.Option(
        exists=True, dir_okay=False, metavar=metavar, help=text, rich_help_panel=panel, show_default=default
    )


def _key_option(name: str) -> Any:  # noqa: ANN401 - as typer.Option
    return typer.Option(
        name,
        exists=True,
        dir_okay=False,
        metavar="KEY.pem",
        help=f"The private key to sign with, as `faal create-key` writes it. {_FORM}",
    )


Key = Annotated[Path, _key_option("--key")]
OptionalKey = Annotated[Path | None, _key_option("--sign")]
SignerName = Annotated[
    str | None,
    typer.Option(
        "--signer", metavar="TEXT", help="Your name and role, which the signed statement repeats. They are not checked."
    ),
]


def read_key(path: Path | None, name: str | None) -> "Signer | None":
    """Return the signer with that private key, or None without a key.

    Raises: InvalidSpec where the key cannot be read; typer.BadParameter for a name without a key; OSError.
    """
    from faal_core.evidence import read_signer

    if path is None:
        if name is not None:
            raise typer.BadParameter(
                "pass --sign KEY.pem too: a name without a signature says nothing", param_hint="--signer"
            )
        return None
    return read_signer(path, _ask_passphrase, name)


def _ask_passphrase() -> bytes:
    if (passphrase := os.environ.get(PASSPHRASE)) is not None:
        return passphrase.encode()
    answer: str = typer.prompt("Passphrase", hide_input=True, err=True)
    return answer.encode()
