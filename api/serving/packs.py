"""Pack the report of a job with its evidence, as `faal pack` does. Routes and pages call `pack_job`."""

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, BinaryIO

from pydantic import ValidationError

from api.problems.errors import InvalidRequest
from api.schemas.packs import PackRequest
from api.schemas.requests import PolicyRequest
from api.serving.dependencies import Service
from api.serving.policy_text import parse_policy_text
from api.serving.stored_files import StoredFileResponse
from faal_client.digests import format_digest
from faal_core.errors import InvalidSpec
from faal_core.results.comparison_documents import ComparisonReport, ModelTable
from faal_core.results.documents import AuditReport
from faal_core.results.finetune_documents import FinetuneReport
from faal_core.results.method_table_documents import MethodTable
from faal_core.results.reading import OUTCOMES, REPORT, list_audits, newest_audit, read_any_report, read_report
from faal_core.specs import Policy
from faal_core.specs.field_errors import explain, first_errors
from faal_core.specs.policy_file import is_json
from jobs import queries
from jobs.artifacts import record_lost
from jobs.content import full_disk_errors
from jobs.errors import FileLost, JobNotFound, OutcomesNotFound

if TYPE_CHECKING:
    from faal_core.evidence.archive import Member
    from faal_core.results.gates.baseline import PairedAudits

MEDIA_TYPE = "application/zip"
KEY_HEADER = "FAAL-Pack-Key"
MOST_IMAGES, MOST_CLASSES = (
    100_000,
    2_000,
)  # of a report; a pack of these takes 8 s of processor time, and 225 MB of memory


@dataclass(frozen=True, slots=True)
class PackFile:
    """Holds a pack in an open file without a name, which the system removes when it is closed.

    Args:
        key_id: id of the key that signed the pack; None where it is not signed.
        filename: name that a browser gives to the file.
    """

    content: BinaryIO
    sha256: str
    key_id: str | None
    filename: str


@dataclass(frozen=True, slots=True)
class _Subject:
    """Holds a report to pack, and where its outcomes are.

    Args:
        document: the report as JSON.
        outcomes: digests of the files with outcomes, by their names in the pack.
        paired: comparison of the audit with an earlier one, where the job is a comparison.
    """

    document: str
    report: AuditReport | FinetuneReport
    outcomes: Mapping[str, str]
    paired: "PairedAudits | None" = None


def pack_job(service: Service, job_id: str, request: PackRequest) -> PackFile:
    """Return the pack of a job's report; of a comparison, that of its second audit.

    Takes about a second for 10,000 images.

    Raises: InvalidRequest for a policy that cannot be used and a signature of another one; InvalidSpec for reports that make no
        pack; ServiceBusy, FileLost, StorageFull, StoreUnavailable; and the errors of `queries.find_outcomes`.
    """
    subject = _find_subject(service, job_id)
    _require_bounds(subject.report)
    extras = _read_request(job_id, subject, request)
    with (
        service.packs.for_owner(service.owner),
        full_disk_errors(),
        TemporaryDirectory(prefix="faal-pack-") as folder,
    ):
        members = _read_members(service, subject, Path(folder)) | extras
        return _write(service, members, Path(folder, "pack.zip"), f"pack-{job_id}.zip")


def find_obstacle(service: Service, job_id: str) -> str | None:
    """Return why the report of a job cannot be packed, in a sentence; None where nothing is known against it.

    Raises: the errors of `queries.require_report`; StoreUnavailable.
    """
    try:
        _require_bounds(_find_subject(service, job_id).report)
    except (InvalidSpec, OutcomesNotFound) as error:
        return error.message
    return None


def _require_bounds(report: AuditReport | FinetuneReport) -> None:
    """Check that the report can be packed within a request. Raises: InvalidSpec."""
    if any(audit.sequential is not None for audit in list_audits(report).values()):
        raise InvalidSpec(
            "The audit is sequential, and a pack needs an audit of all images. Audit again without `sequential`."
        )
    images = sum(audit.dataset.images for audit in list_audits(report).values())
    classes = len(newest_audit(report).dataset.class_names)
    if images > MOST_IMAGES or classes > MOST_CLASSES:
        raise InvalidSpec(
            f"The report has {images:,} images and {classes:,} classes. The service packs at most {MOST_IMAGES:,} images and "
            f"{MOST_CLASSES:,} classes. Download report and outcomes, and run `faal pack`."
        )


def answer_with_pack(pack: PackFile) -> StoredFileResponse:
    """Return the response that sends a pack, and closes its file."""
    digest = format_digest(pack.sha256)
    headers = {"Repr-Digest": digest, "Content-Digest": digest, "Accept-Ranges": "none"}
    if pack.key_id is not None:
        headers[KEY_HEADER] = pack.key_id
    response = StoredFileResponse(
        pack.filename,
        media_type=MEDIA_TYPE,
        filename=pack.filename,
        headers=headers,
        stat_result=os.fstat(pack.content.fileno()),
    )
    response.open = lambda: pack.content
    return response


def _find_subject(service: Service, job_id: str) -> _Subject:
    """Return the report to pack.

    Raises: InvalidSpec for a table, a comparison of different images, and one whose second audit cannot be packed.
    """
    with service.sessions() as session:
        document = queries.require_report(session, job_id).document
        spec = queries.find_job(session, job_id).spec
    match read_any_report(document):
        case AuditReport() as report:
            return _Subject(document, report, _find_outcomes(service, job_id, OUTCOMES["audit"]))
        case FinetuneReport() as report:
            names = (OUTCOMES["before"], OUTCOMES["after"])
            return _Subject(document, report, _find_outcomes(service, job_id, *names))
        case ModelTable() | MethodTable():
            raise InvalidSpec("A table has no single audit to pack. Pack the report of one audit.")
        case ComparisonReport() as comparison:
            return _find_second_audit(service, spec["jobs"][1], comparison)


def _find_second_audit(service: Service, job_id: str, comparison: ComparisonReport) -> _Subject:
    """Return the second audit of a comparison; of a fine-tuning, the audit of its new weights.

    Raises: InvalidSpec where the job of that audit was deleted, or has no outcomes; and for a comparison of different images.
    """
    from faal_core.results.gates.pairing import separate  # imported here, since SciPy takes a fraction of a second

    _, paired = separate(comparison)
    try:
        with service.sessions() as session:
            document = queries.require_report(session, job_id).document
            outcomes = {OUTCOMES["audit"]: queries.find_outcomes(session, job_id).sha256}
    except (JobNotFound, OutcomesNotFound) as error:
        fault = "was deleted" if isinstance(error, JobNotFound) else "has no outcomes of its images"
        raise InvalidSpec(
            f"The pack of a comparison has the report and the outcomes of its second audit. This audit, job {job_id}, {fault}, "
            "so the comparison cannot be packed. Audit the model again, and compare again."
        ) from None
    report = read_report(document)
    if isinstance(report, FinetuneReport):
        document = report.after.model_dump_json(indent=2)
    return _Subject(document, newest_audit(report), outcomes, paired)


def _find_outcomes(service: Service, job_id: str, *names: str) -> dict[str, str]:
    """Return the digests of the files with outcomes of an audit or a fine-tuning, by their names."""
    with service.sessions() as session:
        return {
            name: queries.find_outcomes(session, job_id, "before" if name == OUTCOMES["before"] else "after").sha256
            for name in names
        }


def _read_members(service: Service, subject: _Subject, folder: Path) -> "dict[str, Member]":
    """Return the report and its outcomes. Raises: FileLost, StoreUnavailable."""
    from faal_core.evidence.archive import Member

    members = {REPORT: Member.from_bytes(subject.document.encode())}
    for name, sha256 in subject.outcomes.items():
        try:
            members[name] = Member.from_bytes(service.storage.fetch(sha256, folder).read_bytes())
        except FileLost as lost:
            record_lost(service.sessions, lost)
            raise
        except FileNotFoundError:  # the job was deleted a moment ago
            raise FileLost(sha256, damaged=False) from None
    return members


def _read_request(job_id: str, subject: _Subject, request: PackRequest) -> "dict[str, Member]":
    """Return the policy, its signature and its result. Raises: InvalidRequest."""
    from faal_core.evidence.archive import Member
    from faal_core.evidence.contents import APPROVAL, GATE

    if request.policy is None:
        if request.policy_signature is not None:
            raise InvalidRequest.for_field(
                "/policy_signature", "there is no policy; send the text of its file as `policy`"
            )
        return {}
    name, policy = _parse_policy(request.policy)
    members = {name: Member.from_bytes(request.policy.encode())}
    if request.policy_signature is not None:
        _check_signature(request.policy_signature, request.policy)
        members[APPROVAL] = Member.from_bytes(request.policy_signature.encode())
    members[GATE] = Member.from_bytes(_judge(job_id, policy, subject))
    return members


def _parse_policy(text: str) -> tuple[str, Policy]:
    """Return the name of the policy's file in the pack, and the policy. Raises: InvalidRequest."""
    from faal_core.evidence.contents import POLICIES

    document = parse_policy_text(text)
    try:
        PolicyRequest.model_validate(document)  # has bounds for requests
        return POLICIES[is_json(text)], Policy.model_validate(document)
    except ValidationError as error:
        first = first_errors(error)[0][0]
        field = ".".join(map(str, first["loc"]))
        raise InvalidRequest.for_field("/policy", f"{field and f'{field}: '}{explain(first)}") from None


def _check_signature(signature: str, policy: str) -> None:
    """Check that the text is a signature of the policy. Raises: InvalidRequest."""
    from faal_core.evidence.approval import read_approval
    from faal_core.evidence.refusal import PackRefused

    def explain_refusal(text: str) -> str | None:
        try:
            read_approval(signature.encode(), text.encode(), "it")
        except PackRefused as error:
            return str(error)
        return None

    if (refusal := explain_refusal(policy)) is None:
        return
    unix = policy.replace("\r\n", "\n")
    if any(explain_refusal(text) is None for text in (unix, unix.replace("\n", "\r\n"))):
        refusal = "it signs this policy with other line ends; use the text of the signed file without any change"
    raise InvalidRequest.for_field("/policy_signature", refusal)


def _judge(job_id: str, policy: Policy, subject: _Subject) -> bytes:
    """Return the result of the policy as JSON. Raises: InvalidRequest without its baseline, and for names it does not have."""
    from faal_core.results.gates.judging import judge_audit
    from faal_core.results.gates.pairing import separate

    audit, paired = separate(subject.report)
    paired = paired or subject.paired
    if policy.baseline is not None and paired is None:
        raise InvalidRequest.for_field(
            "/policy",
            f"it compares with a baseline, and job {job_id} is an audit without one; compare it with an earlier audit by "
            "`POST /jobs/compare`, and pack the comparison",
        )
    try:
        return judge_audit(policy, audit, paired).model_dump_json(indent=2).encode()
    except InvalidSpec as error:
        raise InvalidRequest.for_field("/policy", error.message.rstrip(".")) from None


def _write(service: Service, members: "dict[str, Member]", path: Path, filename: str) -> PackFile:
    """Write the pack, and return it open. Raises: InvalidSpec for files that do not make a pack; OSError."""
    from faal_core.evidence.pack import pack_members

    result = pack_members(path, members, service.signer)
    content = path.open("rb")
    sha256 = hashlib.file_digest(content, "sha256").hexdigest()
    content.seek(0)
    return PackFile(content, sha256, result.key_id, filename)
