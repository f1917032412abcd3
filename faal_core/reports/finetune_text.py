"""A fine-tuning's verdict in sentences, and how its candidates are called."""

from collections import Counter
from collections.abc import Sequence

from faal_core.reports.audit_text import attacks_named, audit_verdict, by_chance, caveat, confidence, worst_place
from faal_core.reports.wording import change_with_bounds, named, percent, points, with_bounds
from faal_core.results.documents import AuditReport, Spread
from faal_core.results.finetune_documents import Candidate, Fall, FinetuneReport, PairedChange

LISTED_FALLS = 3  # in the first sentence of a fine-tuning's conclusions
NOTABLE_LOSS = 0.05  # of a class: where a smaller fall could be shown, the sentence does not say from which on


def finetune_verdict(report: FinetuneReport) -> list[str]:
    """Return the sentences of a fine-tuning's verdict, the most important first."""
    before, after = report.before.robust, report.after.robust
    if report.outcome == "kept-original":
        tested = "No other weights were tested on the test images."
        return [_kept_original(report), tested, *audit_verdict(report.before)]
    was, became = (
        f"{with_bounds(audit.robust.worst)}, {worst_place(audit)}" for audit in (report.before, report.after)
    )
    tally = Counter(row.verdict for row in report.robust.classes)
    clean = _way(report.before.clean, report.after.clean)
    gaps = f"from {100 * before.gap.value:.1f} to {100 * after.gap.value:.1f} points"
    weaker = f" ({caveat(report.after)})" if caveat(report.after) else ""
    return [
        _conclusion(report),
        f"Under {attacks_named(report.after)} the accuracy of the worst class went from {was}, to {became}{weaker}.",
        f"Average robust accuracy went {_way(before, after)}, {change_with_bounds(report.robust.mean_change)}.",
        f"Average clean accuracy went {clean}, {change_with_bounds(report.clean.mean_change)}.",
        f"Classes by robust accuracy: {tally['better']} better, {tally['worse']} worse, {tally['unclear']} unclear.",
        f"Kept are {kept(report)}.",
        *_offsets(report),
        f"The lead of the classes' mean over the worst class went {gaps}; {by_chance(after)}.",
        confidence(report.after),
    ]


def audits(report: AuditReport | FinetuneReport) -> dict[str, AuditReport]:
    """Return the audits to show, each with its time: "before", "after", or "" where there is one only."""
    if isinstance(report, AuditReport):
        return {"": report}
    if report.outcome == "kept-original":
        return {"": report.before}
    return {"before": report.before, "after": report.after}


def _conclusion(report: FinetuneReport) -> str:
    """Say what became of the class that was worst, and what fell significantly: first what is most important."""
    change = weakest_before(report)
    tied = sum(row.before == change.before for row in report.robust.classes)
    place = "the worst class" if tied < 2 else f"one of {tied} equally robust worst classes"
    verbs = {"better": "is more robust", "worse": "is less robust", "unclear": "shows no clear change"}
    moved = f"{points(change.after - change.before)} points ({change.gained} images gained, {change.lost} lost)"
    worst = f"{named(change.name)}, {place} before, {verbs[change.verdict]}: {moved}"
    weaker = next(
        (f"{note[:1].upper()}{note[1:]}: " for audit in audits(report).values() if (note := caveat(audit))), ""
    )
    fallen = _fallen(report.falls)
    if not fallen:
        return f"{weaker}{worst}; no accuracy fell significantly{_least_provable(report)}."
    if report.outcome == "worse":
        return f"{weaker}Significantly lower than before: {fallen}. {worst[:1].upper()}{worst[1:]}."
    return f"{weaker}{worst}; significantly lower than before: {fallen}."


def _least_provable(report: FinetuneReport) -> str:
    """Say which fall of the smallest class could have been shown, where that takes a notable part of its images."""
    from faal_core.results.intervals import (
        least_provable_loss,  # SciPy, which who writes another sentence does not load
    )

    images = min(row.images for row in report.after.classes)
    least = least_provable_loss(len(report.robust.classes), report.after.spec.confidence)
    if least <= NOTABLE_LOSS * images:
        return ""
    if least > images:
        return f"; no fall of a class of {images} images could have been shown"
    return f"; a class of {images} images would have to lose {least} of them to count"


def _offsets(report: FinetuneReport) -> list[str]:
    """Explain class offsets where the kept weights have some."""
    if not report.selected_offsets:
        return []
    rest = "; no other weight changed" if report.selected_share == 0 else ""
    return [f"Class offset: a constant added to a class's output{rest}."]


def weakest_before(report: FinetuneReport) -> PairedChange:
    """The change of the class that was least robust before."""
    comparison = report.robust
    return next(row for row in comparison.classes if row.name == comparison.worst_class_before)


def _fallen(falls: Sequence[Fall]) -> str:
    """List the largest falls, "mean clean accuracy (−3.1 points)", and count the others."""
    listed = [
        f"{fall.accuracy} accuracy of {named(fall.name)} ({points(fall.change)} points)"
        if fall.name is not None
        else f"mean {fall.accuracy} accuracy ({points(fall.change)} points)"
        for fall in falls[:LISTED_FALLS]
    ]
    more = len(falls) - LISTED_FALLS
    return ", ".join([*listed, *([f"{more} more"] if more > 0 else [])])


def _kept_original(report: FinetuneReport) -> str:
    """Say that no new weights were made, and within which bounds they were looked for."""
    return (
        f"The original weights are kept: of {len(report.candidates) - 1} other candidates, none within the bounds "
        f"({training_bounds(report)}) makes the worst class more robust on held-out images."
    )


def training_bounds(report: FinetuneReport) -> str:
    """List the spec's bounds on what accuracies may lose; empty where there are none."""
    training = report.spec.training
    drops = {
        "mean robust accuracy": training.max_robust_drop,
        "mean clean accuracy": training.max_clean_drop,
        "the accuracy of every class": training.max_class_drop,
    }
    return ", ".join(f"{name} {_allowed(drop)}" for name, drop in drops.items() if drop is not None)


def _allowed(drop: float) -> str:
    """Say by how much an accuracy may fall: "may fall by at most 1 point", "may not fall"."""
    if drop == 0:
        return "may not fall"
    written = f"{100 * drop:g}"
    return f"may fall by at most {written} point{'' if written == '1' else 's'}"


def tone(report: FinetuneReport) -> str:
    """Name the colour of a fine-tuning's outcome: good, mixed, bad or neutral. Good only where nothing fell significantly."""
    tones = {"better": "good", "mixed": "mixed", "worse": "bad", "unclear": "neutral", "kept-original": "neutral"}
    return "mixed" if report.outcome == "better" and report.falls else tones[report.outcome]


def kept(report: FinetuneReport) -> str:
    """Which weights were kept, as half a sentence."""
    epoch = f"epoch {report.selected_epoch} of {len(report.epochs)}"
    offsets = f"class offsets at {percent(report.selected_offsets)} of their full size"
    given = f"the given weights with {offsets}" if report.selected_offsets else "the weights as they were given"
    if report.selected_share == 0:
        return f"{given}, since {epoch} did no better within the bounds"
    if report.selected_share == 1:
        return f"the weights of {epoch}" + (f", which began with {offsets}" if report.selected_offsets else "")
    beginning = f"the given ones with {offsets}" if report.selected_offsets else "the given ones"
    return f"the weights {percent(report.selected_share)} of the way from {beginning} to those of {epoch}"


def is_kept(one: Candidate, report: FinetuneReport) -> bool:
    """Tell whether those weights are the ones that the fine-tuning kept."""
    return (one.share, one.offsets) == (report.selected_share, report.selected_offsets)


def candidate_label(one: Candidate) -> str:
    """Describe a candidate by its offsets and its place on the way: "as given", "50 % of the offsets, 25 % of the way"."""
    offsets = {0.0: "", 1.0: "all class offsets"}.get(one.offsets, f"{100 * one.offsets:g} % of the class offsets")
    way = {0.0: "", 1.0: "best epoch"}.get(one.share, f"{100 * one.share:g} % of the way to the best epoch")
    return ", ".join(part for part in (offsets, way) if part) or "as given"


def _way(before: Spread, after: Spread) -> str:
    return f"from {percent(before.mean.rate)} to {percent(after.mean.rate)}"


def training_cut(report: FinetuneReport) -> str:
    """What of its training was not made because the time was over; empty where all was."""
    asked, made = report.spec.training.epochs, sum(epoch.share for epoch in report.epochs)
    return "" if made == asked else f"Training ended after {made:.2f} of {asked} epochs: its time was over."
