"""Say which reports give rates that may be too high, so that no limit can be met by them."""

from collections.abc import Collection

from faal_core.results.documents import AuditReport

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
    codes = _select_codes(accepted, clean=clean)
    reasons = [f"{one.code}: {one.message}" for one in report.warnings if one.code in codes]
    return (*_describe_end(report.complete, clean=clean), *reasons)


def doubtful_codes(report: AuditReport, accepted: tuple[str, ...] = (), *, clean: bool = False) -> tuple[str, ...]:
    """Return the codes of the warnings that the robust rates of the report may be far too high, in alphabetical order.

    Args:
        accepted, clean: as in `doubts`.
    """
    codes = _select_codes(accepted, clean=clean)
    return tuple(code for code in list_codes(report) if code in codes)


def doubts_of_codes(
    warnings: Collection[str], *, complete: bool, accepted: tuple[str, ...] = (), clean: bool = False
) -> tuple[str, ...]:
    """Return the reasons as `doubts` does, of an audit that is known by the codes of its warnings alone.

    Args:
        complete: whether every attack reached every image left for it.
    """
    codes = _select_codes(accepted, clean=clean)
    reasons = [f"It has the warning {code}." for code in sorted(codes & set(warnings))]
    return (*_describe_end(complete, clean=clean), *reasons)


def _select_codes(accepted: tuple[str, ...], *, clean: bool) -> frozenset[str]:
    """Return the codes of the warnings that are a reason for doubt."""
    return (OVERSTATED_CLEAN if clean else OVERSTATED) - set(accepted)


def _describe_end(complete: bool, *, clean: bool) -> tuple[str, ...]:
    """Return the reason of an audit that was stopped. Its clean rates are of all images."""
    return () if clean or complete else (_INCOMPLETE,)
