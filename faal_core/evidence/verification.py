"""Verify a pack: each fact that follows from other files of the pack is computed again."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from zipfile import ZipFile

from faal_core.errors import FaalError
from faal_core.evidence import checks
from faal_core.evidence.archive import Member, open_archive
from faal_core.evidence.contents import ENVIRONMENT, PAGE, PDF, SBOM, SPEC, Contents, check_size
from faal_core.evidence.keys import PublicKey
from faal_core.evidence.pdf_check import check_pdf
from faal_core.evidence.refusal import PackRefused
from faal_core.evidence.result import Check, CheckName, VerificationResult
from faal_core.evidence.sealed_statement import STATEMENT, SealedStatement, open_statement
from faal_core.results.documents import PRODUCT
from faal_core.results.reading import REPORT

REQUIRED = (REPORT, SPEC, PAGE, ENVIRONMENT, SBOM, STATEMENT)
_MOST_STATEMENT_BYTES = 4 * 2**20
Repredict = Callable[[Contents], Check]
_NO_WEIGHTS = Check(
    name="predictions", status="not-checked", sentence="No weights were given, so no image was predicted again."
)


def verify_pack(
    path: str | Path,
    *,
    public_key: PublicKey | None = None,
    policy_key: PublicKey | None = None,
    repredict: Repredict | None = None,
) -> VerificationResult:
    """Return which checks the pack passes. A pack without a failed check is verified.

    Args:
        public_key: key that must have signed the pack; without it the result names the key, and does not say whose it is.
        policy_key: key that must have signed the policy.
        repredict: predicts the adversarial images again; `faal_core.auditing.reprediction.check_predictions` does.
    Raises: InvalidSpec if cryptography or pyarrow is missing; OSError.
    """
    run = _Verification(public_key, policy_key, repredict)
    try:
        with open_archive(Path(path)) as archive:
            run.verify(archive)
    except PackRefused as error:
        run.fail("archive", error)
    return run.summarise()


class _Verification:
    """Runs the checks of one pack and collects their results."""

    def __init__(self, public_key: PublicKey | None, policy_key: PublicKey | None, repredict: Repredict | None) -> None:
        self._public_key, self._policy_key, self._repredict = public_key, policy_key, repredict
        self._checks: list[Check] = []
        self._sealed: SealedStatement | None = None
        self._contents: Contents | None = None
        self._has_pdf = False

    def fail(self, name: CheckName, reason: PackRefused) -> None:
        """Store the reason for which a check fails."""
        self._checks.append(Check(name=name, status="failed", sentence=str(reason)))

    def verify(self, archive: ZipFile) -> None:
        """Run the checks. Later ones are left out where the files are not those of the statement. Raises: PackRefused."""
        members = {info.filename: Member(info.file_size, partial(archive.open, info)) for info in archive.infolist()}
        self._has_pdf = PDF in members
        for name, member in members.items():
            if name != STATEMENT:
                check_size(name, member.size)
        if missing := [name for name in REQUIRED if name not in members]:
            raise PackRefused(f"The pack has no {missing[0]}.")
        self._checks.append(
            Check(name="archive", status="passed", sentence="The zip file has its files and no other byte.")
        )
        try:
            with members.pop(STATEMENT).open() as file:
                sealed = self._sealed = open_statement(file.read(_MOST_STATEMENT_BYTES))
        except PackRefused as error:
            self.fail("statement", error)
            return
        contents = Contents(members)
        digests = checks.measure_digests(contents)
        is_signed = self._run("signature", lambda: checks.check_signature(sealed, self._public_key))
        if not self._run("digests", lambda: checks.check_digests(digests, sealed)) or not is_signed:
            return
        if not self._run("outcomes", lambda: checks.check_outcomes(contents)):
            return
        if self._run("policy", lambda: checks.check_policy(contents, self._policy_key)):
            self._contents = contents
        self._run("gate", lambda: checks.check_gate(contents))
        self._run("statistics", lambda: checks.check_statistics(contents))
        self._run("batches", lambda: checks.check_batches(contents))
        self._run("adversarial", lambda: checks.check_adversarial(contents))
        self._run("statement", lambda: checks.check_statement(contents, digests, sealed))
        if self._run("page", lambda: checks.check_page(contents, digests, sealed)):
            self._run("pdf", lambda: check_pdf(contents, digests))
        self._run("predictions", lambda: self._repredict(contents) if self._repredict else _NO_WEIGHTS)

    def _run(self, name: CheckName, check: Callable[[], Check]) -> bool:
        """Run a check and store its result; return whether it did not fail."""
        try:
            result = check()
        except PackRefused as error:
            self.fail(name, error)
            return False
        except (FaalError, OSError):
            raise
        except Exception as error:  # noqa: BLE001 - a stranger's values must not end the verification without a result
            self.fail(name, PackRefused(f"The files cannot be checked: {type(error).__name__}: {str(error)[:200]}."))
            return False
        self._checks.append(result)
        return result.status != "failed"

    def summarise(self) -> VerificationResult:
        """Return the results."""
        sealed = self._sealed
        passed = {check.name for check in self._checks if check.status == "passed"}
        stated = {check.name for check in self._checks if check.status == "not-checked"}
        signed = "signature" in passed
        gate = self._contents.gate if self._contents and "gate" in passed | stated else None
        return VerificationResult(
            product=PRODUCT,
            key_id=sealed.key.key_id if sealed and sealed.key and signed else None,
            signer=sealed.claim.name if sealed and sealed.claim and signed else None,
            trusted=signed and self._public_key is not None,
            policy_signature=checks.summarise_approval(self._contents, self._policy_key) if self._contents else None,
            gate_status=gate.status if gate and "gate" in passed else None,
            stated_gate_status=gate.status if gate and "gate" in stated else None,
            pdf_checked="pdf" in passed if self._has_pdf else None,
            checks=tuple(self._checks),
        )
