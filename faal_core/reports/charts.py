"""Charts of results for a notebook: altair objects that the reader can change and save."""

from collections.abc import Iterator, Sequence

from faal_core.errors import InvalidSpec
from faal_core.reports.wording import distinguish, worst_first
from faal_core.results.documents import AuditReport, Rate
from faal_core.results.finetune_documents import FinetuneReport
from faal_core.threat_model import format_radius

try:
    import altair as alt
except ModuleNotFoundError:
    raise InvalidSpec("Charts need altair, which is not installed. Run pip install 'faal[plots]'.") from None

Row = dict[str, str | float]
_BLUE, _WARM = "#5a96dc", "#d9692b"


def chart_audit(report: AuditReport) -> alt.LayerChart:
    """Return the clean and robust accuracy of each class with its interval, lowest robust accuracy first."""
    return _chart_classes({"clean": [row.clean for row in report.classes], "robust": _robust(report)}, report)


def chart_finetuning(report: FinetuneReport) -> alt.LayerChart:
    """Return the robust accuracy of each class before and after, with intervals, lowest robust accuracy afterwards first."""
    return _chart_classes({"before": _robust(report.before), "after": _robust(report.after)}, report.after)


def chart_radii(reports: Sequence[AuditReport]) -> alt.LayerChart:
    """Return the robust accuracy by radius: the mean, and each class as a thin line; radii of stopped audits are left out."""
    rows: list[Row] = []
    for report in (one for one in reports if one.complete):
        radius: Row = {"radius": report.spec.threat.epsilon, "written": format_radius(report.spec.threat.epsilon)}
        rows += [{**radius, "line": "class", "class": row.name, "robust": row.robust.rate} for row in report.classes]
        rows.append({**radius, "line": "mean", "class": "mean", "robust": report.robust.mean.rate})
    base = alt.Chart(alt.InlineData(values=rows)).encode(
        x=alt.X("radius:Q", title="radius ε"),
        y=alt.Y("robust:Q", title="robust accuracy", axis=alt.Axis(format="%"), scale=alt.Scale(domain=[0, 1])),
        tooltip=["class:N", "written:N", alt.Tooltip("robust:Q", format=".1%")],
    )
    classes = base.transform_filter("datum.line == 'class'").mark_line(opacity=0.5).encode(detail="class:N")
    mean = base.transform_filter("datum.line == 'mean'").mark_line(point=True, strokeWidth=3)
    return classes.encode(color=alt.value(_BLUE)) + mean.encode(color=alt.value(_WARM))


def _robust(report: AuditReport) -> list[Rate]:
    return [row.robust for row in report.classes]


def _chart_classes(kinds: dict[str, list[Rate]], report: AuditReport) -> alt.LayerChart:
    order = worst_first(report.classes)
    names = distinguish([row.name for row in report.classes])
    base = alt.Chart(alt.InlineData(values=list(_iterate_rates(kinds, names)))).encode(
        y=alt.Y("class:N", sort=[names[c] for c in order], title=None),
        yOffset=alt.YOffset("kind:N", sort=list(kinds)),
        color=alt.Color("kind:N", sort=list(kinds), scale=alt.Scale(range=[_BLUE, _WARM]), title=None),
        tooltip=["class:N", "kind:N", *(alt.Tooltip(f"{name}:Q", format=".1%") for name in ("rate", "low", "high"))],
    )
    scale, axis = alt.Scale(domain=[0, 1]), alt.Axis(format="%")
    bounds = base.mark_rule(strokeWidth=2).encode(
        x=alt.X("low:Q", title="accuracy", scale=scale, axis=axis), x2="high:Q"
    )
    chart: alt.LayerChart = bounds + base.mark_point(filled=True, size=60).encode(x="rate:Q")
    return chart


def _iterate_rates(kinds: dict[str, list[Rate]], names: Sequence[str]) -> Iterator[Row]:
    for kind, rates in kinds.items():
        for name, rate in zip(names, rates, strict=True):
            yield {"class": name, "kind": kind, "rate": rate.rate, "low": rate.low, "high": rate.high}
