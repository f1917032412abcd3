"""Render a report as one self-contained HTML page: inline charts, inline style, no script, no external files.

Only the drawings enter a template as markup; every other text is escaped. Works without torch. Without the extra `plots` a report
has its tables and the dots of its classes, and a note that other charts are left out.
"""

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from pydantic import JsonValue

from faal_core.reports import audit_text, class_plots, comparison_text, finetune_text, method_table_text, text, wording
from faal_core.results import rate_text
from faal_core.results.comparison_documents import ComparisonReport, ModelTable
from faal_core.results.documents import AuditReport, ClassRow, GalleryImage
from faal_core.results.finetune_documents import CellRow, ClassChange, FinetuneReport
from faal_core.results.method_table_documents import MethodTable
from faal_core.results.reading import Report

TOP_PAIRS = 10  # most frequent confusions listed
LISTED_CLASSES = 50  # rows of the tables in the text, where there are over 100 classes; an appendix lists all classes


@dataclass(frozen=True, slots=True)
class Figure:
    """Holds drawings with their caption and their description for screen readers."""

    svg: str
    caption: str
    description: str

    @property
    def drawing(self) -> Markup:
        """Return the drawing as markup: Vega escapes every text in it."""
        return Markup(self.svg)  # noqa: S704 - the only such place; a test draws hostile class names


@dataclass(frozen=True, slots=True)
class Pair:
    """Counts the images of one class that were taken for another, in each audit of the report."""

    true: str
    predicted: str
    counts: tuple[int, ...]
    images: int


@dataclass(frozen=True, slots=True)
class Pictures:
    """Holds the images of one class in the gallery."""

    name: str
    fragile: list[GalleryImage]
    hardest: list[GalleryImage]


@dataclass(frozen=True, slots=True)
class Change:
    """Holds a class before and after, with the paired tests between them."""

    before: ClassRow
    after: ClassRow
    robust: ClassChange
    clean: ClassChange


@dataclass(frozen=True, slots=True)
class CellChange:
    """Holds a class × group cell with the paired tests between before and after."""

    cell: CellRow
    robust: ClassChange
    clean: ClassChange


def has_charts() -> bool:
    """Return whether the packages that draw charts are installed."""
    return all(find_spec(package) is not None for package in ("altair", "vl_convert"))


def render(report: Report) -> str:
    """Return the page, a complete HTML document. Takes a second or two the first time, while the chart engine starts."""
    match report:
        case AuditReport():
            return _render_audit(report)
        case FinetuneReport():
            return _render_finetune(report)
        case ComparisonReport():
            return _render_comparison(report)
        case ModelTable():
            return _render_model_table(report)
        case MethodTable():
            return _render_method_table(report)


@cache
def load_templates(*folders: Path) -> Environment:
    """Return the templates of reports, with their filters, and those in the folders."""
    environment = Environment(
        loader=FileSystemLoader([*folders, Path(__file__).parent / "templates"]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    filters = (
        wording.sanitise,
        rate_text.percent,
        rate_text.points,
        wording.bounds,
        wording.change_bounds,
        wording.p_value,
        wording.count,
        finetune_text.candidate_label,
        finetune_text.is_kept,
        audit_text.attack_key,
        audit_text.attacked_cells,
        audit_text.certified_mean,
        audit_text.caveat,
        audit_text.name_worst_class,
    )
    environment.filters["position"] = _write_position
    environment.globals.update(
        first_look=audit_text.FIRST_LOOK,
        listed=LISTED_CLASSES,
        profile_height=class_plots.PROFILE_HEIGHT,
        has_charts=has_charts,
    )
    environment.filters.update(
        {function.__name__: function for function in (*filters, audit_text.summarise_group, wording.worst_first)}
    )
    return environment


def _write_position(rate: float) -> str:
    """Return the position of a rate on a track, as SVG writes it."""
    return f"{100 * rate:.2f}%"


def _render_audit(report: AuditReport) -> str:
    page = load_templates().get_template("audit.html")
    return page.render(
        report=report,
        summary=text.verdict(report),
        warnings=text.warnings(report),
        rows=[report.classes[c] for c in wording.worst_first(report.classes)],
        after_attacks=audit_text.after_attacks(report),
        plots=[class_plots.build_audit_plot(report)],
        description=_describe_worst_classes(report),
        figures=_draw_confusion({"": report}),
        origin=_list_origin(report),
        pairs=_list_top_pairs([report]),
        pictures=_collect_pictures(report),
        fields=list(_list_fields(report.spec.model_dump(mode="json"))),
    )


def _render_finetune(report: FinetuneReport) -> str:
    page = load_templates().get_template("finetune.html")
    audits = finetune_text.audits(report)
    rows = _list_changes(report)
    return page.render(
        report=report,
        tone=finetune_text.tone(report),
        bounds=finetune_text.training_bounds(report),
        cut=finetune_text.training_cut(report),
        summary=text.verdict(report),
        warnings=text.warnings(report),
        rows=rows,
        original_kept=report.outcome == "kept-original",
        support=finetune_text.name_support(report),
        cell_rows=_list_cells(report),
        audits=list(audits.values()),
        times=[f" {when}" if when else "" for when in audits],
        audit_rows=[row.before for row in rows],
        after_attacks=audit_text.after_attacks(report.before),
        pair_columns=[when.capitalize() or "Images" for when in audits],
        plots=[class_plots.build_audit_plot(report.before)]
        if len(audits) == 1
        else class_plots.build_change_plots(report.before.classes, report.after.classes),
        description=_describe_worst_classes(report.after),
        figures=_draw_finetune_figures(report),
        origin=_list_origin(report.before),
        pairs=_list_top_pairs(list(audits.values())),
        pictures=_collect_pictures(report.after),
        fields=list(_list_fields(report.spec.model_dump(mode="json"))),
        digests=[
            ("weights before", report.before.classifier.sha256),
            ("weights after", report.after.classifier.sha256),
            ("training images and labels", report.training_dataset.sha256),
            ("test images and labels", report.after.dataset.sha256),
        ],
    )


def _render_comparison(report: ComparisonReport) -> str:
    page = load_templates().get_template("comparison.html")
    rows = _list_changes(report)
    in_label_order = _list_changes(report, in_label_order=True)
    audits = {"before": report.before, "after": report.after}
    return page.render(
        report=report,
        names=comparison_text.name_models([report.before, report.after]),
        tone=comparison_text.choose_tone(report),
        summary=text.verdict(report),
        warnings=text.warnings(report),
        pairing=comparison_text.describe_pairing(report),
        rows=rows,
        plots=class_plots.build_change_plots(
            [row.before for row in in_label_order], [row.after for row in in_label_order]
        ),
        description=_describe_worst_classes(report.after),
        digests=[
            (f"{part}, {when}", digest)
            for when, audited in audits.items()
            for part, digest in (
                ("weights", audited.classifier.sha256),
                ("images and labels", audited.dataset.sha256),
                ("outcomes of the images", audited.outcomes_sha256 or "not stored"),
            )
        ],
    )


def _render_model_table(table: ModelTable) -> str:
    page = load_templates().get_template("model_table.html")
    return page.render(
        report=table,
        summary=text.verdict(table),
        cells=comparison_text.tabulate_models(table),
        figures=_draw_radii(table),
    )


def _render_method_table(table: MethodTable) -> str:
    page = load_templates().get_template("method_table.html")
    return page.render(
        report=table,
        summary=text.verdict(table),
        cells=method_table_text.tabulate_methods(table),
        seeds=method_table_text.tabulate_seeds(table),
    )


def _draw_radii(table: ModelTable) -> dict[str, Figure]:
    """Return the chart of the worst class by radius, where there are several radii of one norm."""
    norms = {audited.spec.threat.norm for audited in table.audits}
    if not has_charts() or len(norms) > 1 or len(list(table.by_radius())) < 2:
        return {}
    from faal_core.reports import plots  # as below

    caption = "Robust accuracy of the worst class by radius, with its interval, for each model."
    return {"radii": Figure(plots.draw_radii(table.audits), caption, f"{caption} The table has the numbers.")}


def _list_changes(report: FinetuneReport | ComparisonReport, *, in_label_order: bool = False) -> list[Change]:
    """Return the classes that both audits have, lowest robust accuracy afterwards first."""
    before, after = ({row.name: row for row in audited.classes} for audited in (report.before, report.after))
    changes = [
        Change(before[robust.name], after[robust.name], robust, clean)
        for robust, clean in zip(report.robust.classes, report.clean.classes, strict=True)
    ]
    return changes if in_label_order else [changes[c] for c in wording.worst_first([row.after for row in changes])]


def _list_cells(report: FinetuneReport) -> list[CellChange]:
    """Return the class × group cells that have test images, lowest robust accuracy afterwards first.

    There are none where the original weights were kept, since no cell can have changed.
    """
    if report.cells is None or report.outcome == "kept-original":
        return []
    rows = {row.name: row for row in report.cells.cells}
    pairs = zip(report.cells.robust.classes, report.cells.clean.classes, strict=True)
    changes = [CellChange(rows[robust.name], robust, clean) for robust, clean in pairs]
    return sorted(changes, key=lambda change: change.robust.after)


def _list_top_pairs(audits: list[AuditReport]) -> list[Pair]:
    """Return the most frequent confusions of all audits together, most frequent first."""
    counts = [Counter({(pair.true, pair.predicted): pair.count for pair in audit.confusion}) for audit in audits]
    images = {row.name: row.images for row in audits[0].classes}
    return [
        Pair(true, predicted, tuple(count[true, predicted] for count in counts), images[true])
        for (true, predicted), _ in sum(counts, Counter()).most_common(TOP_PAIRS)
    ]


def _collect_pictures(report: AuditReport) -> list[Pictures]:
    """Return the gallery's images by class, in the gallery's order."""
    classes: dict[str, Pictures] = {}
    for image in report.gallery:
        pictures = classes.setdefault(image.true, Pictures(image.true, [], []))
        (pictures.fragile if image.kind == "fragile" else pictures.hardest).append(image)
    return list(classes.values())


def _list_fields(value: JsonValue, path: str = "") -> Iterator[tuple[str, str]]:
    """Yield every value of a spec with its dotted path, in order; a list of plain values in one line."""
    if isinstance(value, dict) and value:
        for name, inner in value.items():
            yield from _list_fields(inner, f"{path}.{name}" if path else name)
    elif isinstance(value, list) and any(isinstance(inner, dict) for inner in value):
        for place, inner in enumerate(value):
            yield from _list_fields(inner, f"{path}.{place}")
    else:
        plain = value if isinstance(value, list) else [value]
        yield path, ", ".join(inner if isinstance(inner, str) else json.dumps(inner) for inner in plain) or "none"


def _list_origin(report: AuditReport) -> list[tuple[str, str]]:
    """Return the names and values of what computed the report; none in older documents."""
    origin = report.provenance
    if origin is None:
        return []
    values = {
        "job": origin.job_id,
        "model": origin.model_id,
        "FAAL": origin.faal,
        "PyTorch": origin.torch,
        "CUDA": origin.cuda,
        "device": origin.device,
        "CPU instruction set": origin.instruction_set,
        "CPU threads": str(origin.threads),
        "processes": None if origin.processes is None else str(origin.processes),
    }
    return [(name, value) for name, value in values.items() if value is not None]


def _describe_worst_classes(report: AuditReport) -> str:
    """Return the robust accuracy of the five worst classes, for screen readers."""
    rows = [report.classes[c] for c in wording.worst_first(report.classes)[:5]]
    return "; ".join(f"{wording.sanitise(row.name)} {rate_text.percent(row.robust.rate)}" for row in rows)


def _describe_cut(report: AuditReport, limit: int) -> str:
    """Return the remark that a chart shows only the worst classes, where it does."""
    classes = len(report.classes)
    return f" Only the {limit} of {classes} classes with the lowest robust accuracy." if classes > limit else ""


def _describe_curves(report: FinetuneReport) -> str:
    """Return what the training chart shows."""
    loss = "mean weighted loss"
    return f"Accuracy on the validation images, and {loss}," if report.validation_images else loss.capitalize()


_CONFUSION = (
    "Predicted classes of the images that are not robust. A stronger colour is a larger part of the true class.",
    "Heat map of the true class against the predicted class; the table has the largest counts.",
)


def _draw_confusion(audits: dict[str, AuditReport]) -> dict[str, Figure]:
    """Return the heat map of the confusions, one panel per audit; none without confusions or with too many classes."""
    if not has_charts():
        return {}
    from faal_core.reports import plots  # imported here, since altair and its engine take half a second

    all_audits = list(audits.values())
    few = len(plots.confusion_classes(all_audits)) <= plots.HEATMAP_CLASSES
    if not few or not any(audit.confusion for audit in all_audits):
        return {}
    return {"confusion": Figure(plots.draw_confusion(audits), *_CONFUSION)}


def _draw_finetune_figures(report: FinetuneReport) -> dict[str, Figure]:
    if not has_charts():
        return {}
    from faal_core.reports import plots  # as above

    figures = _draw_epochs(report) if report.epochs else {}
    if report.candidates:
        between = "Weights between the given ones (with class offsets, if any) and the best epoch's"
        shown = between if report.epochs else "The given weights and those with a changed last layer"
        support = finetune_text.name_support(report)
        figures["candidates"] = Figure(
            plots.draw_candidates(report),
            f"{shown}, on the validation images: mean robust accuracy against the worst {support}. Numbers refer to the table "
            "below; the filled point is the weights kept.",
            f"Points of mean and worst-{support} robust accuracy; FAAL kept {finetune_text.describe_kept(report)}.",
        )
    return figures | _draw_confusion(finetune_text.audits(report))


def _draw_epochs(report: FinetuneReport) -> dict[str, Figure]:
    """Return the charts of a training, epoch by epoch."""
    from faal_core.reports import plots  # as above

    cut = _describe_cut(report.after, plots.CHART_CLASSES)
    return {
        "training": Figure(
            plots.draw_training(report),
            f"{_describe_curves(report)} by epoch; dashed: the best epoch.",
            f"Lines over {len(report.epochs)} epochs; epoch {report.selected_epoch} was the best.",
        ),
        "weights": Figure(
            plots.draw_class_weights(report),
            f"Mean weight of a {finetune_text.name_support(report)}'s images in each epoch; 1 is neutral.{cut}",
            f"Heat map of the mean weight of each {finetune_text.name_support(report)} in each epoch.",
        ),
    }
