"""faal pack: write a report with all that it follows from into one signed file."""

from pathlib import Path
from typing import Annotated

import typer

from faal_core.cli import evidence_options
from faal_core.cli.evidence_options import file_option


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
    policy: Annotated[Path | None, file_option("The policy of the gate: a YAML or JSON file.")] = None,
    policy_signature: Annotated[Path | None, file_option("The file that `faal sign` wrote for the policy.")] = None,
    gate_result: Annotated[
        Path | None,
        file_option(
            "The result of `faal gate --json`; required where the policy compares the audit with a baseline.",
            default="the policy is evaluated",
        ),
    ] = None,
    ledger: Annotated[Path | None, file_option("The audit's ledger, to add the results of each batch.")] = None,
    adversarial: Annotated[
        Path | None,
        file_option("The .npy file that `faal audit --save-adversarial` wrote, to add the adversarial images."),
    ] = None,
    pdf: Annotated[bool, typer.Option("--pdf", help="Also add the page as a PDF; needs the extra `pdf`.")] = False,
    sign: evidence_options.OptionalKey = None,
    signer: evidence_options.SignerName = None,
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
        signer=evidence_options.read_key(sign, signer),
        with_pdf=pdf,
    )
    signature = f"signed with the key {result.key_id}" if result.key_id else "not signed: pass --sign KEY.pem"
    typer.echo(f"Written to {output}, {signature}")
