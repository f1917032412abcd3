"""faal sign: sign a policy before the audit runs."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from faal_core.cli import evidence_options


def sign(
    context: typer.Context,
    policy: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="The policy: a YAML or JSON file.")],
    key: evidence_options.Key,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            dir_okay=False,
            help="The file to write.",
            show_default="the policy's name with .intoto.json",
        ),
    ] = None,
    signer: evidence_options.SignerName = None,
) -> None:
    """Sign a policy before the audit runs; `faal pack --policy-signature` binds the signature to the audit."""
    from faal_core.cli.specs import build_spec
    from faal_core.evidence.approval import sign_policy
    from faal_core.specs import Policy
    from faal_core.specs.policy_file import parse_policy_document

    content = policy.read_bytes()
    build_spec(context, Policy, policy, {}, read=lambda file: parse_policy_document(content, file.name))
    owner = evidence_options.read_key(key, signer)
    assert owner is not None, "the key is required"  # noqa: S101
    target = output or policy.with_suffix(".intoto.json")
    sealed = sign_policy(content, policy.name, owner, datetime.now(UTC))
    try:
        with target.open("xb") as file:
            file.write(sealed)
    except FileExistsError:
        raise typer.BadParameter(f"{target} exists: name another file", param_hint="--output") from None
    typer.echo(f"Written to {target}, signed with the key {owner.public_key.key_id}")
