"""Draw a report's charts as static SVG: Vega-Lite written through altair, drawn by vl-convert.

Colours are CSS variables with a fallback, so that one drawing serves light pages, dark pages and paper. Class names reach
Vega as data only, never as field names or expressions. Importing this module takes half a second, so `html` imports it
late.
"""

from collections.abc import Sequence

import altair as alt
import vl_convert

from faal_core.reports.comparison_text import name_models
from faal_core.reports.finetune_text import is_kept, name_support
from faal_core.reports.wording import distinguish
from faal_core.results.documents import AuditReport
from faal_core.results.finetune_documents import EpochRow, FinetuneReport

CHART_CLASSES = 30  # most classes in a chart, the worst ones
HEATMAP_CLASSES = 20  # most classes in a heat map; with more, only the table shows the confusions
CANDIDATES_WIDTH, CANDIDATES_HEIGHT = 375, 220  # pixels
CHART_EPOCHS = 40  # about the most epochs in a chart; of a longer training, evenly spaced ones

INK, MUTED, LINE, PAPER = "var(--ink, #1b2430)", "var(--muted, #5d6979)", "var(--line, #dde2ea)", "var(--paper, #fff)"
PALE, BLUE, WARM = "var(--pale, #cbd4e0)", "var(--blue, #5a96dc)", "var(--warm, #d9692b)"

Row = dict[str, str | float]
Panel = alt.Chart | alt.LayerChart


def _render_svg(panel: Panel) -> str:
    """Return the drawing without a background and without labels for screen readers, which the page adds itself."""
    axis = {
        "labelColor": INK,
        "titleColor": MUTED,
        "titleFontWeight": "normal",
        "labelFontSize": 12,
        "titleFontSize": 12,
    }
    lines = {"domainColor": LINE, "tickColor": LINE, "gridColor": LINE, "labelLimit": 180}
    styled = panel.configure(
        background="transparent",
        aria=False,
        font="Arial, Liberation Sans, Helvetica, sans-serif",
        padding=4,
        axis={**axis, **lines},
        legend={"orient": "top", "title": None, "labelColor": INK, "labelFontSize": 12, "symbolType": "square"},
        title={"color": INK, "fontSize": 13, "anchor": "start", "fontWeight": 600},
        view={"stroke": None},
    )
    drawing: str = vl_convert.vegalite_to_svg(styled.to_dict())
    return drawing


def _inline_data(rows: Sequence[Row]) -> alt.InlineData:
    return alt.InlineData(values=list(rows))


def confusion_classes(audits: Sequence[AuditReport]) -> list[str]:
    """Return the classes of a heat map's axes, in label order: those that have images or that images were taken for."""
    occurring = {row.name for audit in audits for row in audit.classes}
    occurring |= {pair.predicted for audit in audits for pair in audit.confusion}
    return [name for name in audits[0].dataset.class_names if name in occurring]


def draw_confusion(audits: dict[str, AuditReport]) -> str:
    """Return heat maps of the predicted classes of images that are not robust, one titled drawing per audit."""
    names = confusion_classes(list(audits.values()))
    labels = dict(zip(names, distinguish(names), strict=True))
    cells = {title: _build_confusion_rows(audit, labels) for title, audit in audits.items()}
    fractions = [float(cell["fraction"]) for panel in cells.values() for cell in panel]
    shades = alt.Scale(domain=[0, max(fractions, default=1.0)], range=[0.06, 0.85])
    size = 370 if len(audits) == 1 else 330
    panels: list[Panel] = [
        _draw_heat_map(cells[title], list(labels.values()), shades).properties(width=size, height=size, title=title)
        for title in audits
    ]
    return "".join(map(_render_svg, panels))


def _build_confusion_rows(audit: AuditReport, labels: dict[str, str]) -> list[Row]:
    """Return one row per pair of true and predicted class: the count, and its fraction of the true class's images."""
    images = {row.name: row.images for row in audit.classes}
    return [
        {
            "true": labels[pair.true],
            "predicted": labels[pair.predicted],
            "count": pair.count,
            "fraction": pair.count / images[pair.true],
        }
        for pair in audit.confusion
    ]


def _draw_heat_map(cells: list[Row], names: list[str], shades: alt.Scale) -> alt.LayerChart:
    every = alt.Scale(domain=names, paddingInner=0.04)
    base = alt.Chart(_inline_data(cells)).encode(
        x=alt.X(
            "predicted:N", scale=every, title="taken for", axis=alt.Axis(labelAngle=-45, ticks=False, domain=False)
        ),
        y=alt.Y("true:N", scale=every, title="true class", axis=alt.Axis(ticks=False, domain=False)),
    )
    opacity = alt.Opacity("fraction:Q", scale=shades, legend=None)
    squares = base.mark_rect(color=WARM, cornerRadius=2).encode(opacity=opacity)
    panel: alt.LayerChart = squares + base.mark_text(color=INK, fontSize=10).encode(text="count:Q")
    return panel


def _thin_epochs(report: FinetuneReport) -> list[EpochRow]:
    """Return at most about CHART_EPOCHS epochs, evenly spaced; always with the last and the selected one."""
    stride = -(-len(report.epochs) // CHART_EPOCHS)
    required_epochs = {report.selected_epoch, report.epochs[-1].epoch}
    return [row for i, row in enumerate(report.epochs) if i % stride == 0 or row.epoch in required_epochs]


def draw_training(report: FinetuneReport) -> str:
    """Return charts of the validation accuracy and the loss by epoch, with a dashed line at the best epoch."""
    epochs = _thin_epochs(report)
    columns = {
        "clean": "validation_clean",
        "robust, mean": "validation_robust",
        f"robust, worst {name_support(report)}": "validation_robust_worst",
    }
    rates: list[Row] = [
        {"epoch": row.epoch, "kind": kind, "value": value}
        for kind, column in columns.items()
        for row in epochs
        if (value := getattr(row, column)) is not None
    ]
    losses: list[Row] = [{"epoch": row.epoch, "kind": "loss", "value": row.loss} for row in epochs]
    panels = [_draw_curves(losses, {"loss": MUTED}, report.selected_epoch, "loss", alt.Scale(zero=False))]
    if rates:
        colours = dict(zip(columns, (MUTED, BLUE, WARM), strict=True))
        scale = alt.Scale(domain=[0, 1])
        panels.insert(0, _draw_curves(rates, colours, report.selected_epoch, "accuracy on validation images", scale))
    return "".join(map(_render_svg, panels))


def draw_candidates(report: FinetuneReport) -> str:
    """Return a chart of mean against worst-class accuracy of the candidates, by number; the kept one is filled."""
    rows: list[Row] = [
        {"mean": one.robust, "worst": one.robust_worst, "order": i} for i, one in enumerate(report.candidates)
    ]
    kept_rows = [rows[order] for order, one in enumerate(report.candidates) if is_kept(one, report)]
    axis = alt.Axis(format=".1%", tickCount=5)
    x = alt.X(
        "mean:Q", title="mean robust accuracy, validation images", scale=alt.Scale(zero=False, padding=24), axis=axis
    )
    y = alt.Y("worst:Q", title=f"worst {name_support(report)}", scale=alt.Scale(zero=False, padding=16), axis=axis)
    points = alt.Chart(_inline_data(rows)).encode(x=x, y=y)
    line = points.mark_line(color=PALE, strokeWidth=2).encode(order=alt.Order("order:Q"))
    every = points.mark_point(color=BLUE, size=70, filled=False, strokeWidth=2)
    numbers = alt.Chart(
        _inline_data(_label_points([(one.robust, one.robust_worst) for one in report.candidates]))
    ).encode(x=x, y=y)
    names = numbers.mark_text(color=INK, fontSize=12, align="left", dx=8, dy=-8).encode(text="label:N")
    selected_points = (
        alt.Chart(_inline_data(kept_rows)).mark_point(color=WARM, size=110, filled=True, opacity=1).encode(x=x, y=y)
    )
    return _render_svg(
        (line + every + selected_points + names).properties(width=CANDIDATES_WIDTH, height=CANDIDATES_HEIGHT)
    )


def _label_points(places: Sequence[tuple[float, float]]) -> list[Row]:
    """Return labels with the points' numbers; points whose labels would overlap share one: "2–4"."""
    lows = [min(values) for values in zip(*places, strict=True)]
    spans = [(max(values) - min(values)) or 1.0 for values in zip(*places, strict=True)]
    inner = CANDIDATES_WIDTH - 48, CANDIDATES_HEIGHT - 32  # without the scales' padding
    pixels = [
        tuple(size * (v - low) / span for v, low, span, size in zip(p, lows, spans, inner, strict=True)) for p in places
    ]
    groups: list[list[int]] = []
    for number in range(len(places)):
        group = [number]
        while near := [other for other in groups if _overlap(pixels, group, other)]:
            group = sorted([*group, *(member for other in near for member in other)])
            groups = [other for other in groups if other not in near]
        groups.append(group)
    return [{"mean": places[g[0]][0], "worst": places[g[0]][1], "label": _write_runs(g)} for g in groups]


def _overlap(pixels: Sequence[tuple[float, ...]], one: list[int], other: list[int]) -> bool:
    """Return whether two labels, each to the right of its first point, would overlap.

    A digit is 7 pixels wide, and a line is 15 pixels high.
    """
    (left, first), (right, _) = sorted([(pixels[one[0]], one), (pixels[other[0]], other)])
    return right[0] - left[0] < 7 * len(_write_runs(first)) + 12 and abs(right[1] - left[1]) < 15


def _write_runs(numbers: Sequence[int]) -> str:
    """Return ascending numbers with runs of three and more shortened: "0, 2–4"."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ", ".join(f"{run[0]}–{run[-1]}" if len(run) > 2 else ", ".join(map(str, run)) for run in runs)


def _draw_curves(
    rows: list[Row], colours: dict[str, str], selected: int, title: str, scale: alt.Scale
) -> alt.LayerChart:
    kinds = list(colours)
    axis = alt.Axis(format=".0%", tickCount=5) if len(kinds) > 1 else alt.Axis(tickCount=5)
    x = alt.X("epoch:O", title="epoch", axis=alt.Axis(labelAngle=0, labelOverlap=True, grid=False))
    legend = alt.Legend(symbolType="stroke", symbolStrokeWidth=3) if len(kinds) > 1 else None
    colour = alt.Color("kind:N", sort=kinds, scale=alt.Scale(domain=kinds, range=list(colours.values())), legend=legend)
    lines = alt.Chart(_inline_data(rows)).mark_line(strokeWidth=2, point=alt.OverlayMarkDef(size=36))
    curves = lines.encode(x=x, y=alt.Y("value:Q", title=None, scale=scale, axis=axis), color=colour)
    marker = alt.Chart(_inline_data([{"epoch": selected}])).mark_rule(color=MUTED, strokeDash=[4, 3]).encode(x=x)
    panel: alt.LayerChart = (marker + curves).properties(width=375, height=200, title=title)
    return panel


def draw_radii(audits: Sequence[AuditReport]) -> str:
    """Return the robust accuracy of the worst class by radius with its interval, one line for each model."""
    names = name_models(audits)
    labels = dict(zip(names, distinguish(list(names.values())), strict=True))
    rows: list[Row] = [
        {
            "radius": audited.spec.threat.epsilon,
            "model": labels[audited.classifier.sha256],
            "value": audited.robust.worst.value,
            "low": audited.robust.worst.low,
            "high": audited.robust.worst.high,
        }
        for audited in audits
    ]
    domain = list(labels.values())
    base = alt.Chart(_inline_data(rows)).encode(
        x=alt.X("radius:Q", title="radius ε", axis=alt.Axis(grid=False)),
        color=alt.Color("model:N", scale=alt.Scale(domain=domain), legend=alt.Legend(columns=2)),
    )
    scale, axis = alt.Scale(domain=[0, 1]), alt.Axis(format=".0%", tickCount=5)
    curves = base.mark_line(strokeWidth=2, point=alt.OverlayMarkDef(size=36)).encode(
        y=alt.Y("value:Q", title=None, scale=scale, axis=axis),
        shape=alt.Shape("model:N", scale=alt.Scale(domain=domain)),
    )
    bounds = base.mark_rule(strokeWidth=1).encode(y="low:Q", y2="high:Q")
    return _render_svg((bounds + curves).properties(width=560, height=260, title="robust accuracy of the worst class"))


def draw_class_weights(report: FinetuneReport) -> str:
    """Return a chart of the mean weight of the worst classes or cells by epoch: warm above 1, cool below, pale near it."""
    if report.cells:
        rates = {row.name: row.after for row in report.cells.robust.classes}
        weighed = [row.name for row in report.cells.cells]
    else:
        rates = {row.name: row.robust.rate for row in report.after.classes}
        weighed = list(report.after.dataset.class_names)
    order = sorted(range(len(rates)), key=list(rates.values()).__getitem__)[:CHART_CLASSES]
    names = distinguish(list(rates))
    epochs = _thin_epochs(report)
    label = [weighed.index(name) for name in rates]  # classes and cells without test images have weights and no row
    rows = [_build_weight_row(names[c], row.epoch, row.class_weights[label[c]]) for row in epochs for c in order]
    sides = alt.Scale(domain=["above 1", "below 1"], range=[WARM, BLUE])
    base = alt.Chart(_inline_data(rows)).encode(
        x=alt.X("epoch:O", title="epoch", axis=alt.Axis(labelAngle=0, labelOverlap=True, ticks=False, domain=False)),
        y=alt.Y("class:N", sort=[names[c] for c in order], title=None, axis=alt.Axis(ticks=False, domain=False)),
    )
    shades = alt.Scale(domain=[0, 1], range=[0.08, 0.85])
    cells = base.mark_rect(cornerRadius=2).encode(
        color=alt.Color("side:N", scale=sides), opacity=alt.Opacity("strength:Q", scale=shades, legend=None)
    )
    chart: Panel = cells
    if len(epochs) <= 12:  # more would leave no room for the digits
        chart = cells + base.mark_text(color=INK, fontSize=10).encode(text="label:N")
    return _render_svg(chart.properties(width=min(620, 56 * len(epochs)), height=alt.Step(20)))


def _build_weight_row(name: str, epoch: int, weight: float) -> Row:
    side, strength = "above 1" if weight >= 1 else "below 1", min(abs(weight - 1), 1.0)
    return {"class": name, "epoch": epoch, "side": side, "strength": strength, "label": f"{weight:.2f}"}
