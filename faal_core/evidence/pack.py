"""Write a pack: a report with all that it follows from, under one signed statement."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import NamedTemporaryFile

from faal_core.errors import InvalidSpec
from faal_core.evidence import envelope, inventory, page, pdf, strict_json
from faal_core.evidence.archive import Member, write_archive
from faal_core.evidence.batches import select_whole_lines
from faal_core.evidence.checks import measure_digests
from faal_core.evidence.contents import (
    ADVERSARIAL,
    APPROVAL,
    BATCHES,
    ENVIRONMENT,
    GATE,
    PAGE,
    PDF,
    POLICIES,
    SBOM,
    SPEC,
    Contents,
)
from faal_core.evidence.gate_file import can_judge, judge_report
from faal_core.evidence.keys import Signer
from faal_core.evidence.refusal import PackRefused
from faal_core.evidence.result import VerificationResult
from faal_core.evidence.sealed_statement import STATEMENT
from faal_core.evidence.statement import SignerClaim, describe_pack
from faal_core.evidence.verification import verify_pack
from faal_core.results.reading import REPORT, find_report


def write_pack(
    output: str | Path,
    report: str | Path,
    *,
    policy: str | Path | None = None,
    policy_signature: str | Path | None = None,
    gate_result: str | Path | None = None,
    ledger: str | Path | None = None,
    adversarial: str | Path | None = None,
    signer: Signer | None = None,
    with_pdf: bool = False,
) -> VerificationResult:
    """Write the pack of a report, and return the result of its verification.

    The same files and the same installed packages give the same bytes.

    Args:
        output: file to write; an existing file is replaced once the pack is verified.
        report: a report.json, or the folder that has it; the outcomes are read from the files beside it.
        policy: YAML or JSON file of a policy.
        policy_signature: file that `faal sign` wrote for the policy.
        gate_result: the policy's result as JSON, as `faal gate --json` writes it. It is computed where it is absent; a policy
            that compares an audit with a baseline needs it.
        ledger: ledger of the audit.
        adversarial: .npy file of the adversarial images.
        signer: signs the pack; without it the pack has no signature.
        with_pdf: also add the page as a PDF; needs the extra `pdf`.
    Raises: InvalidSpec if the files do not belong together, the result of a gate with a baseline or an extra is missing, or the
        output is one of the files; OSError.
    """
    output, file = Path(output), find_report(Path(report))
    contents = Contents({REPORT: Member.from_bytes(file.read_bytes())})
    extras = [
        None if one is None else Path(one) for one in (policy, policy_signature, gate_result, ledger, adversarial)
    ]
    try:
        outcomes = [file.parent / name for name in contents.audits]
        _require_other_file(output, file, *outcomes, *extras)
        members = {**contents.members, **_read_outcomes(outcomes), **_read_extras(*extras)}
        _require_gate(Contents(members))
    except PackRefused as error:
        raise _not_a_pack(error) from None
    written = _create_beside(output)
    try:
        result = pack_members(written, members, signer, with_pdf=with_pdf)
        written.chmod(0o666 & ~_read_umask())
        written.replace(output)
    except BaseException:
        written.unlink(missing_ok=True)
        raise
    return result


def pack_members(
    output: Path, members: Mapping[str, Member], signer: Signer | None = None, *, with_pdf: bool = False
) -> VerificationResult:
    """Write the pack of these files, verify it as a reader does, and return the result.

    Spec, environment, list of packages, page and statement are added, and the result of the policy unless `members` has it.

    Args:
        output: file to write; if it is not verified, it is no pack, and the caller removes it.
        members: report and outcomes, and each other file that the pack shall have, by the names in `contents`.
        signer: signs the pack; without it the pack has no signature.
        with_pdf: also add the page as a PDF; needs the extra `pdf`.
    Raises: InvalidSpec if the files do not belong together, or an extra is missing; OSError.
    """
    if with_pdf:
        pdf.require_typst()
    try:
        complete = {
            **members,
            SPEC: Member.from_bytes(Contents(members).report.spec.model_dump_json(indent=2).encode()),
            ENVIRONMENT: Member.from_bytes(strict_json.encode(inventory.describe_environment(with_pdf=with_pdf))),
            SBOM: Member.from_bytes(strict_json.encode(inventory.list_packages())),
        }
        _add_gate(complete)
        _add_page_and_statement(complete, signer, with_pdf=with_pdf)
    except PackRefused as error:
        raise _not_a_pack(error) from None
    with output.open("wb") as file:
        write_archive(file, complete)
    result = verify_pack(output, public_key=signer.public_key if signer else None)
    _require_verified(result)
    return result


def _create_beside(output: Path) -> Path:
    """Return a new file in the folder of the output. Raises: OSError that names this folder."""
    try:
        with NamedTemporaryFile(dir=output.parent, prefix=".pack-", delete=False) as copy:
            return Path(copy.name)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(output.parent)) from None


def _not_a_pack(reason: PackRefused) -> InvalidSpec:
    return InvalidSpec(f"The files do not make a pack. {reason}")


def _require_other_file(output: Path, *inputs: Path | None) -> None:
    """Check that the output would not replace one of the inputs. Raises: InvalidSpec, OSError."""
    for path in inputs:
        if path is not None and output.exists() and output.samefile(path):
            raise InvalidSpec(f"{output} is a file to pack. Name another file for the pack.")


def _read_outcomes(paths: Sequence[Path]) -> dict[str, Member]:
    """Return the files of the outcomes by name. Raises: InvalidSpec, OSError."""
    try:
        return {path.name: Member.from_bytes(path.read_bytes()) for path in paths}
    except FileNotFoundError as missing:
        raise InvalidSpec(
            f"{missing.filename} was not found. A pack needs the outcomes that faal audit wrote beside the report."
        ) from None


def _require_gate(contents: Contents) -> None:
    """Check that the policy has a result, or can be evaluated: a pipeline must not hand over limits that nobody checked.

    Raises: InvalidSpec, PackRefused.
    """
    if contents.policy is not None and GATE not in contents.members and not can_judge(contents.policy, contents.report):
        raise InvalidSpec(
            "The policy compares the audit with a baseline, which is not in the pack. So it needs the result of the gate.",
            remedy="gate-result",
        )


def _read_extras(
    policy: Path | None,
    policy_signature: Path | None,
    gate_result: Path | None,
    ledger: Path | None,
    adversarial: Path | None,
) -> dict[str, Member]:
    members = {}
    if policy is not None:
        members[POLICIES[policy.suffix == ".json"]] = Member.from_bytes(policy.read_bytes())
    if policy_signature is not None:
        members[APPROVAL] = Member.from_bytes(policy_signature.read_bytes())
    if gate_result is not None:
        members[GATE] = Member.from_bytes(gate_result.read_bytes())
    if ledger is not None:
        members[BATCHES] = Member.from_bytes(select_whole_lines(ledger.read_bytes()))
    if adversarial is not None:
        members[ADVERSARIAL] = Member.from_file(adversarial)
    return members


def _add_gate(members: dict[str, Member]) -> None:
    """Add the result of the policy, where there is none yet and the pack has all that it needs. Raises: PackRefused."""
    contents = Contents(members)
    if contents.policy is not None and GATE not in members and can_judge(contents.policy, contents.report):
        result = judge_report(contents.policy, contents.report)
        members[GATE] = Member.from_bytes(result.model_dump_json(indent=2).encode())


def _add_page_and_statement(members: dict[str, Member], signer: Signer | None, *, with_pdf: bool) -> None:
    """Add the page, and last the statement that names every other file. Raises: PackRefused, InvalidSpec."""
    contents = Contents(members)
    digests = measure_digests(contents)
    rendered = page.render_page(
        contents, digests, signer.public_key if signer else None, signer.name if signer else None
    )
    pages = {PAGE: Member.from_bytes(rendered)}
    if with_pdf:
        pages[PDF] = Member.from_bytes(pdf.typeset(rendered, digests[REPORT], contents.audited.created_at))
    members |= pages
    digests |= measure_digests(Contents(pages))
    claim = None if signer is None else SignerClaim.from_signer(signer)
    members[STATEMENT] = Member.from_bytes(envelope.seal(describe_pack(contents, digests, claim), signer))


def _require_verified(result: VerificationResult) -> None:
    """Raise the first failed check, if any, as an error. Raises: InvalidSpec."""
    if faults := [check for check in result.checks if check.status == "failed"]:
        details = f" ({', '.join(faults[0].details)})" if faults[0].details else ""
        raise InvalidSpec(f"The files do not make a pack. {faults[0].sentence}{details}")


def _read_umask() -> int:
    umask = os.umask(0)
    os.umask(umask)
    return umask
