"""Test that drawings are well-formed, show the right numbers, have no ids or external files, and are safe for hostile names."""

import re
from xml.etree import ElementTree as ET

import pytest

from faal_core.reports import html, plots
from faal_core.results.documents import AuditReport
from tests.sample_reports import FASHION, sample_audit, sample_finetune

HOSTILE = ("<script>alert(1)</script>", "\"'><img src=x onerror=alert(1)>", "a.b[0]", "${x}\x1b\x00", *FASHION[4:])
SVG = "{http://www.w3.org/2000/svg}"


def drawings(names: tuple[str, ...]) -> dict[str, str]:
    """Return one drawing of each kind, for reports with those class names."""
    rates = [0.3 + 0.6 * i / len(names) for i in range(len(names))]
    audit = sample_audit(names, rates, images=40)
    report = sample_finetune(names, rates, rates)
    return {
        "confusion": plots.draw_confusion({"": audit}),
        "training": plots.draw_training(report),
        "class_weights": plots.draw_class_weights(report),
        "candidates": plots.draw_candidates(report),
    }


def parse(svg: str) -> ET.Element:
    """Return the drawings of a figure under one root."""
    return ET.fromstring(f"<g>{svg}</g>")


def texts(svg: str) -> list[str]:
    """Return the texts in the drawing."""
    return [element.text or "" for element in parse(svg).iter(f"{SVG}text")]


@pytest.mark.parametrize("names", [FASHION, HOSTILE], ids=["plain", "hostile"])
def test_drawings_are_inert_shapes(names: tuple[str, ...]) -> None:
    """Drawings parse as XML, have only shapes and texts, share no ids with another drawing, and fetch no file."""
    for kind, svg in drawings(names).items():
        elements = list(parse(svg).iter())
        assert {element.tag.removeprefix(SVG) for element in elements} <= {"svg", "g", "path", "line", "text"}, kind
        attributes = {name.lower() for element in elements for name in element.attrib}
        assert not [name for name in attributes if name.startswith("on") or "href" in name or name == "id"], kind


def test_hostile_names_are_written_as_they_are() -> None:
    """Markup, dots and brackets in a name are texts of the drawing; control characters are replaced."""
    labels = texts(plots.draw_confusion({"": sample_audit(HOSTILE)}))
    assert set(labels) >= {*HOSTILE[:3], "${x}\ufffd\ufffd"}


def test_colours_follow_the_page_and_have_fallbacks() -> None:
    """Every colour is a variable of the page with a fallback, so dark pages and a bare file both work."""
    for kind, svg in drawings(FASHION).items():
        colours = set(re.findall(r'(?:fill|stroke)="([^"]+)"', svg)) - {"none", "transparent"}
        assert colours, kind
        assert all(re.fullmatch(r"var\(--[a-z]+, #[0-9a-f]{3,6}\)", colour) for colour in colours), (kind, colours)


def test_the_confusion_shows_every_count() -> None:
    """Each pair of classes in the document has its count in the heat map, once."""
    report = sample_audit()
    counts = [text for text in texts(plots.draw_confusion({"": report})) if text.isdigit()]
    assert sorted(counts) == sorted(str(pair.count) for pair in report.confusion)


@pytest.mark.parametrize("epoch", [1, 257, 500])
def test_a_long_training_is_thinned_and_keeps_the_selected_epoch(epoch: int) -> None:
    """The chart of five hundred epochs draws about forty, with the selected and the last one."""
    report = sample_finetune(learning_rates=(0.01,) * 500).model_copy(update={"selected_epoch": epoch})
    epochs = [row.epoch for row in plots._thin_epochs(report)]
    assert epochs == sorted(set(epochs))
    assert {epoch, 500} <= set(epochs)
    assert len(epochs) <= plots.CHART_EPOCHS + 2


def test_without_validation_images_only_the_loss_is_drawn() -> None:
    """The chart of a training without validation images has no accuracy panel."""
    assert "accuracy on validation images" in texts(plots.draw_training(sample_finetune()))
    assert "accuracy on validation images" not in texts(plots.draw_training(sample_finetune(validated=False)))


def test_class_weights_are_shown_in_digits() -> None:
    """The heat map of a short training shows the weight in each cell."""
    report = sample_finetune()
    expected = sorted(f"{weight:.2f}" for row in report.epochs for weight in row.class_weights)
    assert sorted(text for text in texts(plots.draw_class_weights(report)) if "." in text) == expected


def test_every_candidate_is_drawn_and_one_is_filled() -> None:
    """Every candidate is a point with its number in the table, and the selected one is filled."""
    svg = plots.draw_candidates(sample_finetune())
    assert set("01234") <= set(texts(svg))
    assert svg.count('fill="var(--warm, #d9692b)"') == 1


def test_candidates_too_near_for_two_labels_share_one() -> None:
    """Points at nearly one place share a label with all their numbers; a distant point has its own."""
    labels = plots._label_points([(0.5, 0.1), (0.5, 0.1), (0.5001, 0.1), (0.4, 0.3), (0.5, 0.1), (0.3, 0.9)])
    assert [row["label"] for row in labels] == ["3", "0–2, 4", "5"]
    assert [row["label"] for row in plots._label_points([(0.5, 0.1)] * 2)] == ["0, 1"]


def test_a_class_without_images_keeps_the_others_places() -> None:
    """The heat map of weights omits a class without images; the confusion has it if it was predicted."""
    report = sample_finetune()
    empty, *others = report.after.classes
    confusion = tuple(pair for pair in report.after.confusion if pair.true != empty.name)
    after = report.after.model_copy(update={"classes": tuple(others), "confusion": confusion})
    labels = texts(plots.draw_class_weights(report.model_copy(update={"after": after})))
    expected = sorted(f"{weight:.2f}" for row in report.epochs for weight in row.class_weights[1:])
    assert sorted(text for text in labels if "." in text) == expected
    assert any(pair.predicted == empty.name for pair in confusion)
    assert texts(plots.draw_confusion({"": after})).count(empty.name) == 2  # on both axes


def audit_of_many_classes(names: tuple[str, ...], absent_classes: int) -> AuditReport:
    """Return an audit of Fashion-MNIST's images with more classes, of which the first `absent_classes` are predicted."""
    audit = sample_audit()
    mistakes = [
        audit.confusion[0].model_copy(update={"predicted": name, "count": 1}) for name in names[:absent_classes]
    ]
    dataset = audit.dataset.model_copy(update={"class_names": (*FASHION, *names)})
    return audit.model_copy(update={"dataset": dataset, "confusion": (*audit.confusion, *mistakes)})


def test_classes_that_do_not_occur_have_no_place_on_the_axes() -> None:
    """Both axes have, of 1,000 classes, the ten with images and the two others that were predicted, in their order."""
    audit = audit_of_many_classes(tuple(f"absent {i}" for i in range(990)), absent_classes=2)
    expected = [*FASHION, "absent 0", "absent 1"]
    assert plots.confusion_classes([audit]) == expected
    labels = [text for text in texts(plots.draw_confusion({"": audit})) if not text.isdigit()]
    assert sorted(labels) == sorted([*expected, *expected, "taken for", "true class"])


def test_panels_of_one_picture_have_the_same_axes() -> None:
    """A class that was predicted in one audit alone is on the axes of both."""
    before, after = (
        audit_of_many_classes(("other",), absent_classes=1),
        audit_of_many_classes(("other",), absent_classes=0),
    )
    assert texts(plots.draw_confusion({"before": before, "after": after})).count("other") == 4


@pytest.mark.parametrize(("absent_classes", "has_heat_map"), [(10, True), (11, False)])
def test_the_heat_map_is_left_out_where_too_many_classes_occur(absent_classes: int, has_heat_map: bool) -> None:
    """The heat map has at most twenty classes, including predicted ones without images; more classes are only listed."""
    audit = audit_of_many_classes(tuple(f"absent {i}" for i in range(30)), absent_classes)
    report = sample_finetune().model_copy(update={"before": audit, "after": audit})
    for page in (html.render(audit), html.render(report)):
        assert ("Heat map of the true class" in page) == has_heat_map


def test_an_audit_of_the_original_weights_is_not_shown_as_two() -> None:
    """The page shows the confusions of one audit if the original weights were kept, and otherwise of two."""
    report = sample_finetune()
    kept_original = report.model_copy(
        update={"outcome": "kept-original", "selected_candidate": 0, "after": report.before}
    )
    for page, audits in ((html.render(kept_original), 1), (html.render(report), 2)):
        assert page.count(">taken for</text>") == audits
