"""faal create-key: create a key to sign packs and policies with."""

from pathlib import Path
from typing import Annotated

import typer


def create_key(
    key: Annotated[
        Path, typer.Argument(dir_okay=False, help="The file of the private key, such as key.pem; it must not exist.")
    ],
    encrypt: Annotated[
        bool, typer.Option("--encrypt", help="Ask for a passphrase, and encrypt the private key.")
    ] = False,
) -> None:
    """Create an Ed25519 key: KEY.pem, which only you may read, and KEY.pub.pem, which you give to readers of your packs."""
    from faal_core.evidence.keys import create_key as create
    from faal_core.evidence.keys import public_key_path, require_cryptography

    require_cryptography()
    passphrase = typer.prompt("Passphrase", hide_input=True, confirmation_prompt=True) if encrypt else ""
    try:
        public_key = create(key, passphrase.encode() or None)
    except FileExistsError as error:
        raise typer.BadParameter(f"{error.filename} exists: name another file", param_hint="KEY") from None
    typer.echo(f"Written to {key} and {public_key_path(key)}. Key id: {public_key.key_id}")
