"""Say which reports give rates that may be too high, so that no limit can be met by them."""

from collections.abc import Collection

from faal_core.results.documents import AuditReport, ReliabilityWarning

OVERSTATED = frozenset(
    {
        "random-output",
        "batch-dependent",
        "softmax-output",
        "zero-gradient",
        "nan-gradient",
        "saturated-logits",
        "unbounded-attack-fails",
        "larger-radius-breaks-fewer",
        "more-steps-break-fewer",
        "square-beats-gradients",
        "training-images",
    }
)
"""Codes of warnings that the accuracies under attack may be far too high."""
OVERSTATED_CLEAN = frozenset({"training-images"})
"""Codes of warnings that the accuracies without an attack may be far too high, too."""
_INCOMPLETE = "The audit is incomplete: run it to its end."


def list_codes(report: AuditReport) -> tuple[str, ...]:
    """Return the codes of the report's warnings, each once, in alphabetical order."""
    return tuple(sorted({one.code for one in report.warnings}))


def doubts(report: AuditReport, accepted: tuple[str, ...] = (), *, clean: bool = False) -> tuple[str, ...]:
    """Return the reasons why the robust rates of the report may be too high, as sentences; none where they can be trusted.

    Args:
        accepted: codes of warnings that are no reason.
        clean: whether the reasons are about the clean rates instead.
    """
    reasons = [f"{one.code}: {one.message}" for one in _find_warnings(report, accepted, clean=clean)]
    if not (clean or report.complete):
        reasons.insert(0, _INCOMPLETE)
    return tuple(reasons)


def doubtful_codes(report: AuditReport, accepted: tuple[str, ...] = (), *, clean: bool = False) -> tuple[str, ...]:
    """Return the codes of the warnings that the robust rates of the report may be far too high.

    Args:
        accepted, clean: as in `doubts`.
    """
    return tuple(dict.fromkeys(one.code for one in _find_warnings(report, accepted, clean=clean)))


def doubts_of_codes(
    warnings: Collection[str], *, complete: bool, accepted: tuple[str, ...] = (), clean: bool = False
) -> tuple[str, ...]:
    """Return the reasons as `doubts` does, of an audit that is known by the codes of its warnings alone.

    Args:
        complete: whether every attack reached every image left for it.
    """
    codes = (OVERSTATED_CLEAN if clean else OVERSTATED) - set(accepted)
    reasons = [f"It has the warning {code}." for code in sorted(codes & set(warnings))]
    return (*(() if clean or complete else (_INCOMPLETE,)), *reasons)


def _find_warnings(report: AuditReport, accepted: tuple[str, ...], *, clean: bool) -> list[ReliabilityWarning]:
    codes = (OVERSTATED_CLEAN if clean else OVERSTATED) - set(accepted)
    return [one for one in report.warnings if one.code in codes]
