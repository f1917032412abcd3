"""Test that the page is self-contained, inert, complete, and safe for any names."""

import re
import subprocess
import sys
from html.parser import HTMLParser

import pytest

from faal_core.reports import html, text, wording
from faal_core.results.documents import AuditReport
from faal_core.results.finetune_documents import FinetuneReport
from faal_core.specs import AuditSpec, FinetuneSpec
from tests.sample_reports import FASHION, WARNING, sample_audit, sample_finetune

HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(1)>\"'>{{ 7 * 7 }}</style></title>"
MANY = tuple(f"class {i}" for i in range(100))
ALLOWED = re.compile(
    "html|head|meta|title|style|body|main|header|footer|section|h[123]|p|dl|dt|dd|div|ul|li|strong|em|span|small|code|pre"
    "|details|summary|figure|figcaption|img|table|caption|thead|tbody|tfoot|tr|th|td|svg|g|path|line|text|circle|polygon|polyline"
)


class Page(HTMLParser):
    """The tags, attributes and texts of a page; the texts of each table are in rows."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.rows: list[list[str]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Open a tag; void ones are not closed."""
        self.tags.append((tag, dict(attrs)))
        if tag not in {"meta", "img"}:
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in {"th", "td"}:
            self.rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        """Close a tag, which must be the one opened last."""
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        """Collect the text of a cell."""
        if self.rows and {"th", "td"} & set(self.open):
            self.rows[-1][-1] += data


def hostile(report: AuditReport) -> AuditReport:
    """Return the report with markup in every free text."""
    warning = WARNING.model_copy(update=dict.fromkeys(("code", "message", "evidence", "advice"), HOSTILE))
    attacks = tuple(attack.model_copy(update={"name": HOSTILE}) for attack in report.attacks)
    return report.model_copy(
        update={
            "classifier": report.classifier.model_copy(update={"name": HOSTILE}),
            "dataset": report.dataset.model_copy(update={"name": HOSTILE}),
            "product": HOSTILE,
            "warnings": (warning,),
            "attacks": attacks,
            "gallery": tuple(image.model_copy(update={"attack": HOSTILE, "png": HOSTILE}) for image in report.gallery),
        }
    )


def hostile_finetune() -> FinetuneReport:
    """Return a fine-tuning report with markup in every free text."""
    report = sample_finetune((HOSTILE, HOSTILE + "\u202e", *FASHION[2:]))
    return report.model_copy(update={"before": hostile(report.before), "after": hostile(report.after)})


REPORTS = {
    "audit": sample_audit,
    "finetune": sample_finetune,
    "hostile audit": lambda: hostile(sample_audit((HOSTILE, HOSTILE, *FASHION[2:]))),
    "hostile finetune": hostile_finetune,
    "perfect audit": lambda: sample_audit(robust=[1.0] * 10),
    "short training": lambda: sample_finetune(learning_rates=(0.01,), validated=False),
}


@pytest.mark.parametrize("kind", REPORTS)
def test_pages_are_inert_and_self_contained(kind: str) -> None:
    """A page has only the tags of the templates and drawings, each closed; it runs no script and fetches no file."""
    page = html.render(REPORTS[kind]())
    document = Page(page)
    assert document.open == []
    assert all(ALLOWED.fullmatch(tag) for tag, _ in document.tags)
    attributes = {(name, value) for _, attributes in document.tags for name, value in attributes.items()}
    assert not [name for name, _ in attributes if name.startswith("on") or name in {"href", "action"}]
    assert all((value or "").startswith("data:image/png;base64,") for name, value in attributes if name == "src")
    style = page[page.index("<style>") : page.index("</style>")]
    assert not re.search(r"url\(|@import|https?:", style)
    assert ("{{ 7 * 7 }}" in page) == ("hostile" in kind)


def test_ids_are_unique_and_labels_point_to_them() -> None:
    """No two elements share an id, and every aria-labelledby names an id of the page."""
    document = Page(html.render(sample_finetune(warnings=(WARNING,))))
    ids = [attributes["id"] for _, attributes in document.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert {a["aria-labelledby"] for _, a in document.tags if "aria-labelledby" in a} <= set(ids)


def test_figures_and_tables_speak() -> None:
    """Each drawing is an image with a label, each header cell has a scope, and each table is named by its caption."""
    page = html.render(sample_finetune())
    document = Page(page)
    figures = [attributes for tag, attributes in document.tags if attributes.get("role") == "img"]
    assert len(figures) == 5
    assert all(attributes["aria-label"] for attributes in figures)
    assert all("scope" in attributes for tag, attributes in document.tags if tag == "th")
    tables = [attributes["aria-label"] for tag, attributes in document.tags if tag == "table"]
    assert len(tables) == 7
    assert all(f"<figcaption>{name}</figcaption>" in page for name in tables)


def test_every_class_has_its_numbers_worst_first() -> None:
    """The table has a row for each class by ascending robust accuracy: images, clean, robust, after each attack."""
    report = sample_audit()
    rows = {row[0]: row[1:] for row in Page(html.render(report)).rows if len(row) == 6}
    by_rate = sorted(report.classes, key=lambda row: row.robust.rate)
    assert [name for name in rows if name in FASHION] == [row.name for row in by_rate]
    for row in report.classes:
        rates = [text.percent(rate.rate) for rate in row.after_attack]
        ends = [f"{text.percent(rate.rate)}{text.bounds(rate)}" for rate in (row.clean, row.robust)]
        assert rows[row.name] == ["300", *ends, *rates]


def test_each_attack_has_its_own_row_of_cost() -> None:
    """Each of four attacks has a row of images tried and broken, passes and time, and a column of rates."""
    report = sample_audit(attacks="standard")
    rows = Page(html.render(report)).rows
    for attack in report.attacks:
        counts = [f"{count:,}" for count in (attack.tried, attack.broken, attack.forward, attack.backward)]
        assert [attack.name, *counts, f"{attack.seconds:.1f}"] in rows
    head, mean = (next(row for row in rows if len(row) == 8 and row[0] == name) for name in ("Class", "All images"))
    assert head[4:8] == ["After 1", "After 2", "After 3", "After 4"]
    key = "; ".join(f"{k}: {attack.name}" for k, attack in enumerate(report.attacks, start=1))
    assert f"accuracy after attack N and all attacks before it. {key}." in html.render(report)
    right = [sum(row.after_attack[k].count for row in report.classes) for k in range(4)]
    assert mean[4:8] == [text.percent(count / 3000) for count in right]


def stop(report: AuditReport) -> AuditReport:
    """Return the report of an audit whose last attack did not reach 70 images."""
    *first_rows, last = report.attacks
    return report.model_copy(update={"attacks": (*first_rows, last.model_copy(update={"untried": 70}))})


def test_an_audit_that_was_stopped_says_so_first() -> None:
    """The page says before any rate that robust accuracy may be lower; the table of costs shows the missing attacks."""
    page = html.render(stop(sample_audit()))
    assert page.index("robust accuracy may be lower still") < page.index("At most ") < page.index("≤ ")
    rows = Page(page).rows
    assert next(row for row in rows if row[0] == "Attack")[2] == "Not finished"
    assert [row[2] for row in rows if row[0].startswith("PGD-20")] == ["0", "70"]
    assert "Hardest to break" not in page
    complete = html.render(sample_audit())
    assert "may be lower still" not in complete
    assert "Not finished" not in complete


def test_the_gallery_shows_each_image_with_its_outcome() -> None:
    """Each class has a row with its fragile and its hardest images; every picture has an alternative text."""
    document = Page(html.render(sample_audit()))
    first, second = (
        [" ".join(cell.split()) for cell in row] for row in document.rows if len(row) == 3 and "margin" in row[1]
    )
    outcome = "taken for trouser after PGD-20 (cross-entropy), margin 3.1, image 7"
    assert first == ["T-shirt", outcome, "margin 85.3, image 12"]
    assert second == ["trouser", "taken for T-shirt after PGD-20 (cross-entropy), margin 11.8, image 305", "none"]
    pictures = [attributes for tag, attributes in document.tags if tag == "img"]
    assert [picture["alt"] for picture in pictures] == ["T-shirt, image 7", "T-shirt, image 12", "trouser, image 305"]


def test_a_report_without_a_gallery_is_still_a_page() -> None:
    """A document without a gallery, from an older version, gets a page without that section."""
    fields = sample_audit().model_dump(mode="json", exclude={"gallery"})
    page = html.render(AuditReport.model_validate(fields))
    assert "<img" not in page
    assert 'id="gallery"' not in page


def test_the_page_allows_its_own_pictures() -> None:
    """The page's policy allows the pictures inside the page, and forbids fetching any file."""
    policies = [a["content"] for _, a in Page(html.render(sample_audit())).tags if "content" in a and "http-equiv" in a]
    assert policies == ["default-src 'none'; style-src 'unsafe-inline'; img-src data:"]


def test_both_comparisons_are_shown_in_full() -> None:
    """Robust and clean accuracy have one row a class with before, after, gained, lost, adjusted p and verdict."""
    report = sample_finetune()
    rows = [row for row in Page(html.render(report)).rows if len(row) == 9 and row[0] in FASHION]
    assert len(rows) == 20
    for row, comparison in zip(rows, [report.robust] * 10 + [report.clean] * 10, strict=True):
        change = comparison.classes[FASHION.index(row[0])]
        assert row[1].startswith(text.percent(change.before))
        assert row[2].startswith(text.percent(change.after))
        counts = [str(change.gained), str(change.lost), wording.p_value(change.p_adjusted), "300"]
        assert row[3] == change.verdict
        assert row[5:] == counts


@pytest.mark.parametrize(("robust", "outcome"), [(-9.0, "at-chance"), (0.02, "at-chance"), (1.0, "no-evidence")])
def test_hardly_any_robust_image_is_marked_as_a_failure(robust: float, outcome: str) -> None:
    """A rate of zero, and equal classes that are equally bad, have the colour of a failure."""
    page = html.render(sample_audit(robust=[robust] * 10, images=200))
    assert f'<div class="summary {outcome}">' in page
    style = page[: page.index("</style>")]
    (rule,) = re.findall(r"^(.*) \{ border-color: var\(--bad\); \}$", style, re.MULTILINE)
    assert (f".summary.{outcome}" in rule.split(", ")) == (outcome == "at-chance")
    assert (page.count("large zero") > 0) == (robust < 0)


def test_a_first_look_is_marked_beside_its_attacks() -> None:
    """The page says beside attacks weaker than `fast`, and only beside them, that they give an upper bound."""
    note = "weaker than the preset fast: upper bound, first look"
    assert note in html.render(sample_audit(attacks="pgd-100"))
    assert note not in html.render(sample_audit(attacks="fast"))


def test_the_page_says_where_the_numbers_come_from() -> None:
    """The page states job, model, versions, device and threads, and CUDA if it was used; older documents have none of these."""
    for report in (sample_audit(), sample_finetune()):
        page = html.render(report)
        expected = {
            "job": "job_7",
            "model": "model_3",
            "FAAL": "0.1.0",
            "PyTorch": "2.13.0",
            "device": "cpu",
            "CPU threads": "8",
        }
        assert all(f"<dt>{name}</dt><dd>{value}</dd>" in page for name, value in expected.items())
        assert "<dt>CUDA</dt>" not in page
    older = sample_audit().model_dump(mode="json", exclude={"provenance"})
    assert "Computed by" not in html.render(AuditReport.model_validate(older))


def test_warnings_come_before_the_summary() -> None:
    """Warnings are before the numbers, and a page without warnings has no such section."""
    page = html.render(sample_audit(warnings=(WARNING,)))
    assert page.index(WARNING.message) < page.index('id="summary"')
    assert 'id="warnings"' not in html.render(sample_audit())


@pytest.mark.parametrize(("report", "spec"), [(sample_audit(), AuditSpec), (sample_finetune(), FinetuneSpec)])
def test_the_spec_can_be_read_back_from_the_page(
    report: AuditReport | FinetuneReport, spec: type[AuditSpec] | type[FinetuneSpec]
) -> None:
    """The JSON in the page is the spec, and every one of its values is listed by path."""
    page = html.render(report)
    spec_text = re.search(r"<pre>(.*?)</pre>", page, re.DOTALL)
    assert spec_text
    assert spec.model_validate_json(spec_text[1].replace("&#34;", '"')) == report.spec
    assert re.search(r"<dt>threat\.epsilon</dt><dd>0\.1</dd>", page)


def test_the_page_needs_no_torch_and_its_import_no_chart_engine() -> None:
    """Importing the module brings neither torch nor altair nor vl-convert; drawing a page still brings no torch."""
    program = """
import sys
import faal_core.reports.html as html
assert not {"torch", "altair", "vl_convert"} & set(sys.modules)
from tests.sample_reports import sample_audit
assert html.render(sample_audit()).startswith("<!doctype html>")
assert "torch" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", program], check=True)


@pytest.mark.parametrize("report", [sample_audit(), sample_finetune()], ids=["audit", "finetune"])
def test_charts_are_left_out_without_their_packages(
    report: AuditReport | FinetuneReport, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without altair a page has all of its tables and a note instead of the charts."""
    whole = html.render(report)
    monkeypatch.setitem(sys.modules, "altair", None)
    page = html.render(report)
    assert ("left out" in whole, "left out" in page) == (False, True)
    assert Page(page).rows == Page(whole).rows
    assert page.count('class="drawing"') == 0 < whole.count('class="drawing"')


@pytest.mark.parametrize("kind", ["audit", "finetune"])
def test_groups_have_their_tables(kind: str) -> None:
    """A report on data with groups has a verdict and a row for each group, least robust first; hostile names stay texts."""
    groups = ("old", HOSTILE)
    report = sample_audit(groups=groups) if kind == "audit" else sample_finetune(groups=groups)
    last = (report if isinstance(report, AuditReport) else report.after).groups[0]
    page = html.render(report)
    rows = [row for row in Page(page).rows if row and row[0] in groups]
    assert [row[0] for row in rows] == [row.name for row in sorted(last.groups, key=lambda row: row.robust.rate)]
    robust = {row.name: row.robust.rate for row in last.groups}
    assert all(row[-1].startswith(text.percent(robust[row[0]])) for row in rows)
    assert "<script" not in page
    assert "Group by group" not in html.render(sample_audit())


@pytest.mark.parametrize(
    ("order", "expected"),
    [
        ("matched", "by name"),
        ("assumed-natural", "numerical order of their names,\n  which was assumed"),
        ("string", "alphabetical order of their names,\n  as requested"),
        ("stored", None),
    ],
)
def test_the_page_states_preparation_and_class_order(order: str, expected: str | None) -> None:
    """The page lists the conversions of the images, and the source of the order of the classes."""
    report = sample_audit()
    dataset_fields = {"class_order": order, "preparation": ("3 palette images as RGB.", "Cropped <here>.")}
    page = html.render(report.model_copy(update={"dataset": report.dataset.model_copy(update=dataset_fields)}))
    assert "3 palette images as RGB. Cropped &lt;here&gt;." in page
    sentences = ["by name", "order of their names"]
    assert (expected in page) if expected else not any(sentence in page for sentence in sentences)
