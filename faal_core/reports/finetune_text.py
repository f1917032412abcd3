"""Write the sentences that summarise a fine-tuning, and describe its candidates."""

from collections import Counter
from collections.abc import Sequence

from faal_core.reports.audit_text import (
    caveat,
    judge_gap,
    name_attacks,
    name_worst_class,
    state_confidence,
    summarise_audit,
)
from faal_core.reports.wording import change_with_bounds, with_bounds, write_name
from faal_core.results.comparison_documents import ComparisonReport
from faal_core.results.documents import AuditReport, Spread
from faal_core.results.finetune_documents import Candidate, ClassChange, Fall, FinetuneReport
from faal_core.results.rate_text import percent, points

LISTED_FALLS = 3  # most falls in the first sentence of a fine-tuning's summary
NOTABLE_LOSS = 0.05  # fraction of a class; the summary states the smallest provable fall only where it is larger


def summarise_finetune(report: FinetuneReport) -> list[str]:
    """Return the sentences that summarise a fine-tuning, the most important first."""
    before, after = report.before.robust, report.after.robust
    if report.outcome == "kept-original":
        untested = "No other weights were tested on the test images."
        return [_explain_kept_original(report), untested, *_describe_cells(report), *summarise_audit(report.before)]
    worst_before, worst_after = (
        f"{with_bounds(audit.robust.worst)}, {name_worst_class(audit)}" for audit in (report.before, report.after)
    )
    tally = Counter(row.verdict for row in report.robust.classes)
    clean = _describe_change(report.before.clean, report.after.clean)
    gaps = f"from {100 * before.gap.value:.1f} to {100 * after.gap.value:.1f} points"
    weaker = f" ({caveat(report.after)})" if caveat(report.after) else ""
    return [
        _conclude(report),
        *_describe_cells(report),
        f"Under {name_attacks(report.after)} the accuracy of the worst class went from {worst_before}, to {worst_after}{weaker}.",
        f"Average robust accuracy went {_describe_change(before, after)}, {change_with_bounds(report.robust.mean_change)}.",
        f"Average clean accuracy went {clean}, {change_with_bounds(report.clean.mean_change)}.",
        f"Classes by robust accuracy: {tally['better']} better, {tally['worse']} worse, {tally['unclear']} unclear.",
        f"FAAL kept {describe_kept(report)}.",
        *_explain_offsets(report),
        f"The gap between the classes' mean and the worst class went {gaps}; {judge_gap(after)}.",
        state_confidence(report.after),
    ]


def _describe_cells(report: FinetuneReport) -> list[str]:
    """Return the sentences on the worst class × group cell and on all cells, where the method has cells."""
    if report.cells is None:
        return []
    comparison = report.cells.robust
    before, after = (min(getattr(row, when) for row in comparison.classes) for when in ("before", "after"))
    start = f"{percent(before)}, {write_name(comparison.worst_class_before, 'cell')}"
    if report.outcome == "kept-original":
        return [f"The robust accuracy of the worst cell is {start}."]
    tally = Counter(row.verdict for row in comparison.classes)
    end = f"{percent(after)}, {write_name(comparison.worst_class_after, 'cell')}"
    change = change_with_bounds(comparison.worst_change)
    return [
        f"The robust accuracy of the worst cell went from {start}, to {end}: {change}.",
        f"Cells by robust accuracy: {tally['better']} better, {tally['worse']} worse, {tally['unclear']} unclear.",
    ]


def name_support(report: FinetuneReport) -> str:
    """Return the word for the parts of the data whose worst one is lifted: "class" or "cell"."""
    return "cell" if report.cells else "class"


def audits(report: AuditReport | FinetuneReport | ComparisonReport) -> dict[str, AuditReport]:
    """Return the audits to show, each with its time: "before", "after", or "" where there is only one."""
    if isinstance(report, AuditReport):
        return {"": report}
    if isinstance(report, FinetuneReport) and report.outcome == "kept-original":
        return {"": report.before}
    return {"before": report.before, "after": report.after}


def _conclude(report: FinetuneReport) -> str:
    """Return the sentence on the class or cell that was worst and on accuracies that fell significantly.

    The most important part comes first.
    """
    change = weakest_before(report)
    tied = sum(row.before == change.before for row in report.worst_comparison.classes)
    noun, nouns = ("class × group cell", "class × group cells") if report.cells else ("class", "classes")
    place = f"the worst {noun}" if tied < 2 else f"one of {tied} equally robust worst {nouns}"
    verbs = {"better": "is more robust", "worse": "is less robust", "unclear": "shows no clear change"}
    change_text = f"{points(change.after - change.before)} points ({change.gained} images gained, {change.lost} lost)"
    worst = f"{write_name(change.name, name_support(report))}, {place} before, {verbs[change.verdict]}: {change_text}"
    weaker = next(
        (f"{note[:1].upper()}{note[1:]}: " for audit in audits(report).values() if (note := caveat(audit))), ""
    )
    drops = _list_falls(report.falls)
    if not drops:
        return f"{weaker}{worst}; no accuracy fell significantly{_state_least_provable(report)}."
    if report.outcome == "worse":
        return f"{weaker}Significantly lower than before: {drops}. {worst[:1].upper()}{worst[1:]}."
    return f"{weaker}{worst}; significantly lower than before: {drops}."


def _state_least_provable(report: FinetuneReport) -> str:
    """Return the smallest significant fall of the smallest class or cell, where that is a notable part of its images."""
    from faal_core.results.intervals import (
        least_provable_loss,  # needs SciPy, which the other sentences do without
    )

    sizes = [cell.test_images for cell in report.cells.cells] if report.cells else []
    images = min(filter(None, sizes), default=min(row.images for row in report.after.classes))
    least = least_provable_loss(len(report.worst_comparison.classes), report.after.spec.confidence)
    if least <= NOTABLE_LOSS * images:
        return ""
    smallest = f"; in a {name_support(report)} of {images} images"
    if least > images:
        return f"{smallest}, no fall could be significant"
    return f"{smallest}, only a loss of {least} or more is significant"


def _explain_offsets(report: FinetuneReport) -> list[str]:
    """Return the sentence on class offsets or row scales, where the kept weights have some."""
    if not report.selected_offset_scale:
        return []
    rest = "; no other weight changed" if report.selected_interpolation == 0 else ""
    if report.unscaled_row_scales is None:
        return [f"Class offset: a constant added to a class's output{rest}."]
    return [f"Row scale: a factor of a class's row in the last layer{rest}."]


def weakest_before(report: FinetuneReport) -> ClassChange:
    """Return the change of the class or cell that was least robust before."""
    comparison = report.worst_comparison
    return next(row for row in comparison.classes if row.name == comparison.worst_class_before)


def _list_falls(falls: Sequence[Fall]) -> str:
    """Return the largest falls, "mean clean accuracy (−3.1 points)", and the number of the others."""
    listed = [
        f"{fall.accuracy} accuracy of {write_name(fall.name)} ({points(fall.change)} points)"
        if fall.name is not None
        else f"mean {fall.accuracy} accuracy ({points(fall.change)} points)"
        for fall in falls[:LISTED_FALLS]
    ]
    more = len(falls) - LISTED_FALLS
    return ", ".join([*listed, *([f"{more} more"] if more > 0 else [])])


def _explain_kept_original(report: FinetuneReport) -> str:
    """Return the sentence on why no new weights were made, with the bounds."""
    if len(report.candidates) == 1:
        return (
            f"The original weights are kept: no class offsets were found that make the worst {name_support(report)} more robust "
            "and cost the mean little."
        )
    gain = ", by more than a standard error" if report.epochs else ""
    return (
        f"The original weights are kept: of {len(report.candidates) - 1} other candidates, none within the bounds "
        f"({training_bounds(report)}) makes the worst {name_support(report)} more robust on the validation images{gain}."
    )


def training_bounds(report: FinetuneReport) -> str:
    """Return the spec's bounds on falls of accuracy as text; empty where there are none."""
    training = report.spec.training
    drops = {
        "mean robust accuracy": training.max_robust_drop,
        "mean clean accuracy": training.max_clean_drop,
        "the accuracy of every class": training.max_class_drop,
    }
    return ", ".join(f"{name} {_write_bound(drop)}" for name, drop in drops.items() if drop is not None)


def _write_bound(drop: float) -> str:
    """Return how much an accuracy may fall: "may fall by at most 1 point", "may not fall"."""
    if drop == 0:
        return "may not fall"
    written = f"{100 * drop:g}"
    return f"may fall by at most {written} point{'' if written == '1' else 's'}"


def tone(report: FinetuneReport) -> str:
    """Return the tone of a fine-tuning's outcome: good, mixed, bad or neutral; good only where nothing fell significantly."""
    tones = {"better": "good", "mixed": "mixed", "worse": "bad", "unclear": "neutral", "kept-original": "neutral"}
    return "mixed" if report.outcome == "better" and report.falls else tones[report.outcome]


def describe_kept(report: FinetuneReport) -> str:
    """Return the weights that were kept, as the object of a sentence."""
    epoch = f"epoch {report.selected_epoch} of {len(report.epochs)}"
    offsets = _name_change(report, report.selected_offset_scale)
    start = f"the given weights with {offsets}" if report.selected_offset_scale else "the weights as they were given"
    if not report.epochs:
        return start
    if report.selected_interpolation == 0:
        return f"{start}, since {epoch} gained no more than a standard error within the bounds"
    if report.selected_interpolation == 1:
        return f"the weights of {epoch}" + (f", which began with {offsets}" if report.selected_offset_scale else "")
    beginning = f"the given ones with {offsets}" if report.selected_offset_scale else "the given ones"
    return f"the weights {percent(report.selected_interpolation)} of the way from {beginning} to those of {epoch}"


def is_kept(one: Candidate, report: FinetuneReport) -> bool:
    """Return whether these weights are the ones that the fine-tuning kept."""
    return (one.interpolation, one.offset_scale) == (report.selected_interpolation, report.selected_offset_scale)


def candidate_label(one: Candidate, report: FinetuneReport) -> str:
    """Return a candidate's change of the last layer and interpolation: "as given", "50 % of the class offsets, best epoch"."""
    offsets = _name_change(report, one.offset_scale) if one.offset_scale else ""
    place = {0.0: "", 1.0: "best epoch"}.get(
        one.interpolation, f"{100 * one.interpolation:g} % of the way to the best epoch"
    )
    return ", ".join(part for part in (offsets, place) if part) or "as given"


def _name_change(report: FinetuneReport, scale: float) -> str:
    """Return the change of the last layer at that scale: "all class offsets", "row scales to the power 0.5"."""
    if report.unscaled_row_scales is not None:
        return "row scales" if scale == 1 else f"row scales to the power {scale:g}"
    return "all class offsets" if scale == 1 else f"{100 * scale:g} % of the class offsets"


def _describe_change(before: Spread, after: Spread) -> str:
    return f"from {percent(before.mean.rate)} to {percent(after.mean.rate)}"


def training_cut(report: FinetuneReport) -> str:
    """Return how much of the training the time limit left out; empty where the training is complete."""
    requested, completed = report.spec.epochs, sum(epoch.fraction for epoch in report.epochs)
    return (
        ""
        if completed == requested
        else f"The time limit ended the training after {completed:.2f} of {requested} epochs."
    )
