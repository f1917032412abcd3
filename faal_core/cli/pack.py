"""faal pack: write a report with all that it follows from into one signed file."""

from pathlib import Path
from typing import Annotated

import typer

from faal_core.cli import signing_options


def pack(
    report: Annotated[
        Path,
        typer.Argument(
            exists=True,
            help="The report.json to pack, or the folder that has it; the outcomes are the files beside it.",
        ),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", dir_okay=False, help="The file to write.")] = Path(
        "pack.zip"
    ),
    policy: Annotated[
        Path | None,
        typer.Option(exists=True, dir_okay=False, metavar="FILE", help="The policy of the gate: a YAML or JSON file."),
    ] = None,
    policy_signature: Annotated[
        Path | None,
        typer.Option(
            exists=True, dir_okay=False, metavar="FILE", help="The file that `faal sign` wrote for the policy."
        ),
    ] = None,
    gate_result: Annotated[
        Path | None,
        typer.Option(
            exists=True,
            dir_okay=False,
            metavar="FILE",
            help="The result of `faal gate` as JSON; needed only where the policy compares the audit with a baseline.",
            show_default="the policy is evaluated",
        ),
    ] = None,
    ledger: Annotated[
        Path | None,
        typer.Option(
            exists=True, dir_okay=False, metavar="FILE", help="The audit's ledger, to add the results of each batch."
        ),
    ] = None,
    adversarial: Annotated[
        Path | None,
        typer.Option(
            exists=True,
            dir_okay=False,
            metavar="FILE",
            help="The .npy file that `faal audit --save-adversarial` wrote, to add the adversarial images.",
        ),
    ] = None,
    pdf: Annotated[bool, typer.Option("--pdf", help="Also add the page as a PDF; needs the extra `pdf`.")] = False,
    sign: signing_options.OptionalKey = None,
    signer: signing_options.SignerName = None,
) -> None:
    """Write a pack: a report, its outcomes and its page under one signature, for `faal verify` to check."""
    from faal_core.evidence import write_pack

    if sign is not None and output.exists() and output.samefile(sign):
        raise typer.BadParameter(f"{output} is the key: name another file", param_hint="--output")
    result = write_pack(
        output,
        report,
        policy=policy,
        policy_signature=policy_signature,
        gate_result=gate_result,
        ledger=ledger,
        adversarial=adversarial,
        signer=signing_options.read_key(sign, signer),
        with_pdf=pdf,
    )
    signature = f"signed with the key {result.key_id}" if result.key_id else "not signed: pass --sign KEY.pem"
    typer.echo(f"Written to {output}, {signature}")
