"""A report as one self-contained page: inline charts, inline style, no script, nothing fetched.

Only the drawings enter a template as markup; every other text is escaped. Works without torch.
"""

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from pydantic import JsonValue

from faal_core.reports import audit_text, class_plots, finetune_text, text, wording
from faal_core.results.documents import AuditReport, ClassRow, GalleryImage
from faal_core.results.finetune_documents import FinetuneReport, PairedChange

TOP_PAIRS = 10
LISTED_CLASSES = 50  # in the tables among the text, where there are more than twice as many; an appendix has them all


@dataclass(frozen=True, slots=True)
class Figure:
    """Drawings with their caption and their description for screen readers."""

    svg: str
    caption: str
    spoken: str

    @property
    def drawing(self) -> Markup:
        """The drawing as it stands in the page: Vega escapes every text in it."""
        return Markup(self.svg)  # noqa: S704 - the one place; a test draws hostile class names


@dataclass(frozen=True, slots=True)
class Pair:
    """A class taken for another: how many images, in each audit of the report, and the class's images."""

    true: str
    predicted: str
    counts: tuple[int, ...]
    images: int


@dataclass(frozen=True, slots=True)
class Pictures:
    """The images of one class in the gallery."""

    name: str
    fragile: list[GalleryImage]
    hardest: list[GalleryImage]


@dataclass(frozen=True, slots=True)
class Change:
    """A class before and after, with the paired test between them."""

    before: ClassRow
    after: ClassRow
    robust: PairedChange
    clean: PairedChange


def render(report: AuditReport | FinetuneReport) -> str:
    """The page, a complete HTML document. Takes a second or two the first time, while the chart engine starts."""
    return _audit_page(report) if isinstance(report, AuditReport) else _finetune_page(report)


@cache
def _templates() -> Environment:
    folder = Path(__file__).parent / "templates"
    environment = Environment(
        loader=FileSystemLoader(folder),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    words = (
        wording.shown,
        wording.percent,
        wording.points,
        wording.bounds,
        wording.change_bounds,
        wording.p_value,
        finetune_text.candidate_label,
        finetune_text.is_kept,
        audit_text.attack_key,
        audit_text.attacked_cells,
        audit_text.caveat,
        audit_text.worst_place,
    )
    environment.filters["place"] = _place
    environment.globals.update(
        first_look=audit_text.FIRST_LOOK, listed=LISTED_CLASSES, profile_height=class_plots.PROFILE_HEIGHT
    )
    environment.filters.update(
        {word.__name__: word for word in (*words, audit_text.group_verdict, wording.worst_first)}
    )
    return environment


def _place(rate: float) -> str:
    """Return where a rate is on a track, as SVG writes it."""
    return f"{100 * rate:.2f}%"


def _audit_page(report: AuditReport) -> str:
    page = _templates().get_template("audit.html")
    return page.render(
        report=report,
        verdict=text.verdict(report),
        warnings=text.warnings(report),
        rows=[report.classes[c] for c in wording.worst_first(report.classes)],
        after_attacks=audit_text.after_attacks(report),
        plots=[class_plots.audit_plot(report)],
        spoken=_spoken(report),
        figures=_confusion_figure({"": report}),
        origin=_origin(report),
        pairs=_top_pairs([report]),
        pictures=_pictures(report),
        fields=list(_fields(report.spec.model_dump(mode="json"))),
    )


def _finetune_page(report: FinetuneReport) -> str:
    page = _templates().get_template("finetune.html")
    audits = finetune_text.audits(report)
    order = wording.worst_first(report.after.classes)
    return page.render(
        report=report,
        tone=finetune_text.tone(report),
        bounds=finetune_text.training_bounds(report),
        cut=finetune_text.training_cut(report),
        verdict=text.verdict(report),
        warnings=text.warnings(report),
        rows=[
            Change(report.before.classes[c], report.after.classes[c], report.robust.classes[c], report.clean.classes[c])
            for c in order
        ],
        original_kept=report.outcome == "kept-original",
        audits=list(audits.values()),
        times=[f" {when}" if when else "" for when in audits],
        audit_rows=[report.before.classes[c] for c in order],
        after_attacks=audit_text.after_attacks(report.before),
        pair_columns=[when.capitalize() or "Images" for when in audits],
        plots=[class_plots.audit_plot(report.before)] if len(audits) == 1 else class_plots.finetune_plots(report),
        spoken=_spoken(report.after),
        figures=_finetune_figures(report),
        origin=_origin(report.before),
        pairs=_top_pairs(list(audits.values())),
        pictures=_pictures(report.after),
        fields=list(_fields(report.spec.model_dump(mode="json"))),
        digests=[
            ("weights before", report.before.classifier.sha256),
            ("weights after", report.after.classifier.sha256),
            ("training images and labels", report.training_dataset.sha256),
            ("test images and labels", report.after.dataset.sha256),
        ],
    )


def _top_pairs(audits: list[AuditReport]) -> list[Pair]:
    """The commonest confusions of the audits taken together, most frequent first."""
    counts = [Counter({(pair.true, pair.predicted): pair.count for pair in audit.confusion}) for audit in audits]
    images = {row.name: row.images for row in audits[0].classes}
    return [
        Pair(true, predicted, tuple(count[true, predicted] for count in counts), images[true])
        for (true, predicted), _ in sum(counts, Counter()).most_common(TOP_PAIRS)
    ]


def _pictures(report: AuditReport) -> list[Pictures]:
    """The gallery class by class, in its order."""
    classes: dict[str, Pictures] = {}
    for image in report.gallery:
        shown = classes.setdefault(image.true, Pictures(image.true, [], []))
        (shown.fragile if image.kind == "fragile" else shown.hardest).append(image)
    return list(classes.values())


def _fields(value: JsonValue, path: str = "") -> Iterator[tuple[str, str]]:
    """Every value of a spec with its dotted path, in order; a list of plain values in one line."""
    if isinstance(value, dict) and value:
        for name, inner in value.items():
            yield from _fields(inner, f"{path}.{name}" if path else name)
    elif isinstance(value, list) and any(isinstance(inner, dict) for inner in value):
        for place, inner in enumerate(value):
            yield from _fields(inner, f"{path}.{place}")
    else:
        plain = value if isinstance(value, list) else [value]
        yield path, ", ".join(inner if isinstance(inner, str) else json.dumps(inner) for inner in plain) or "none"


def _origin(report: AuditReport) -> list[tuple[str, str]]:
    """Return the names and values of what the report was computed by; none in older documents."""
    origin = report.provenance
    if origin is None:
        return []
    named = {
        "job": origin.job_id,
        "model": origin.model_id,
        "FAAL": origin.faal,
        "PyTorch": origin.torch,
        "CUDA": origin.cuda,
        "device": origin.device,
        "CPU instruction set": origin.instruction_set,
        "CPU threads": str(origin.threads),
    }
    return [(name, value) for name, value in named.items() if value is not None]


def _spoken(report: AuditReport) -> str:
    """The robust accuracy of the five worst classes, to be read aloud."""
    rows = [report.classes[c] for c in wording.worst_first(report.classes)[:5]]
    return "; ".join(f"{wording.shown(row.name)} {wording.percent(row.robust.rate)}" for row in rows)


def _cut(report: AuditReport, kept: int) -> str:
    """The remark that a chart shows only the worst classes, where it does."""
    classes = len(report.classes)
    return f" Only the {kept} of {classes} classes with the lowest robust accuracy." if classes > kept else ""


def _curves(report: FinetuneReport) -> str:
    """What the training chart shows."""
    loss = "mean weighted loss"
    return f"Accuracy on images held out from training, and {loss}," if report.held_out_images else loss.capitalize()


_CONFUSION = (
    "Images that are not robust: what they were taken for. A stronger colour is a larger share of the true class.",
    "Heat map of the true class against the class taken for it; the table has the largest counts.",
)


def _confusion_figure(audits: dict[str, AuditReport]) -> dict[str, Figure]:
    """Return the heat map of the confusions, one panel an audit; none without confusions or with too many classes in it."""
    from faal_core.reports import plots  # altair and its engine take half a second: only who draws waits for them

    of_all = list(audits.values())
    few = len(plots.confusion_classes(of_all)) <= plots.HEATMAP_CLASSES
    if not few or not any(audit.confusion for audit in of_all):
        return {}
    return {"confusion": Figure(plots.confusion(audits), *_CONFUSION)}


def _finetune_figures(report: FinetuneReport) -> dict[str, Figure]:
    from faal_core.reports import plots  # as above

    after, epochs = report.after, len(report.epochs)
    cut = _cut(after, plots.CHART_CLASSES)
    figures = {
        "training": Figure(
            plots.training(report),
            f"{_curves(report)} by epoch; dashed: the best epoch.",
            f"Lines over {epochs} epochs; epoch {report.selected_epoch} was the best.",
        ),
        "weights": Figure(
            plots.class_weights(report),
            f"Mean weight of a class's images in each epoch; 1 is neutral.{cut}",
            "Heat map of the mean weight of each class in each epoch.",
        ),
    }
    if report.candidates:
        figures["candidates"] = Figure(
            plots.candidates(report),
            "Weights on the way from the given ones, with class offsets where there are any, to the best epoch's, on held-out "
            "images: robust on average against the worst class. Numbers are those of the table below; filled: the weights kept.",
            f"Points of mean and worst-class robust accuracy; kept are {finetune_text.kept(report)}.",
        )
    return figures | _confusion_figure(finetune_text.audits(report))
