"""Judge an audit from Python: keyword arguments are the fields of the policy."""

from pathlib import Path
from typing import Any, Protocol

from faal_core.errors import InvalidSpec
from faal_core.reports.gate_formats import html, text
from faal_core.results.document import Document
from faal_core.results.documents import AuditReport
from faal_core.results.finetune_documents import FinetuneReport
from faal_core.results.gates.documents import GateResult
from faal_core.results.gates.judging import judge_audit
from faal_core.results.gates.pairing import pair_audits, separate
from faal_core.results.outcomes import Outcomes
from faal_core.results.reading import Report, StoredAudit, read_audit, read_report_file
from faal_core.specs import Policy
from faal_core.specs.field_errors import check_fields
from faal_core.specs.policy_file import read_policy_document


class Result(Protocol):
    """Is the result of an audit or a fine-tuning."""

    @property
    def report(self) -> AuditReport | FinetuneReport:
        """Return the document that `report.json` holds."""

    @property
    def outcomes(self) -> Outcomes | tuple[Outcomes, ...]:
        """Return the outcomes of the images; those of both audits of a fine-tuning, the new weights last."""


class ShownGateResult(GateResult):
    """Is the result of a gate, which `print` shows as text and a notebook as a table."""

    def __str__(self) -> str:
        """Return the conclusion, and a line for each requirement."""
        return text.render(self)

    def _repr_html_(self) -> str:
        """Return the conclusion and the requirements for a notebook."""
        return html.render(self)


def gate(
    audited: Result | Report | str | Path,
    *,
    baseline: Result | str | Path | None = None,
    tolerance: float | None = None,
    policy: str | Path | None = None,
    **requirements: Any,  # noqa: ANN401 - the fields of a policy
) -> ShownGateResult:
    """Judge an audit by a policy; `passed` of the result says whether it passes.

    A fine-tuning is judged by the audit of its new weights, and compared with the audit of its original weights.

    Args:
        audited: result or report of an audit or a fine-tuning, a comparison, or the path of a report.json or of its folder.
        baseline: result or path of an earlier audit of the same images, in place of a fine-tuning's own.
        tolerance: largest allowed fall from the baseline, 0.01 when absent.
        policy: file of a policy, in YAML or JSON.
        requirements: fields of the policy, such as `min_worst=0.25`; they override those of the file.
    Returns: the document that `faal gate --json` writes; `print` and notebooks show it.
    Raises: InvalidSpec for a wrong policy, or where the audits cannot be compared; OSError.
    """
    fields = {**(read_policy_document(Path(policy)) if policy is not None else {}), **requirements}
    if tolerance is not None:
        fields["baseline"] = {"tolerance": tolerance}
    elif baseline is not None:
        fields.setdefault("baseline", {})
    checked = check_fields(Policy, **fields)
    audit, paired = separate(_read(audited))
    if baseline is not None:
        paired = pair_audits(_store(baseline), _store(audited))
    return ShownGateResult(**dict(judge_audit(checked, audit, paired)))


def _read(audited: Result | Report | str | Path) -> Report:
    if isinstance(audited, str | Path):
        return read_report_file(Path(audited))
    return audited if isinstance(audited, Document) else audited.report


def _store(audited: Result | Report | str | Path) -> StoredAudit:
    """Return the audit with its outcomes. Raises: InvalidSpec for a report, which has none."""
    if isinstance(audited, str | Path):
        return read_audit(Path(audited))
    if isinstance(audited, Document):
        raise InvalidSpec(
            "A baseline is compared image by image. Pass the result of `audit`, or the path of its report.json."
        )
    audit, _ = separate(audited.report)
    return StoredAudit(audit, audited.outcomes[-1] if isinstance(audited.outcomes, tuple) else audited.outcomes)
