"""Test that reports do not call bounds measurements, untested weights tested, or insignificant falls shown."""

import re

import pytest

from faal_core.reports import html, terminal, text
from faal_core.reports.finetune_text import candidate_label, training_cut
from faal_core.results.documents import AttackRow, AuditReport
from faal_core.results.finetune_documents import Candidate, FinetuneReport
from faal_core.specs import HeadMethod, HwnwbMethod
from tests.sample_reports import FASHION, sample_audit, sample_finetune
from tests.unit.faal_core.reports.test_html import Page


def stop_before_attacks() -> AuditReport:
    """Return an audit that was stopped before the first attack: its robust images are the correctly classified ones."""
    report = sample_audit(robust=[0.85] * 9 + [0.5], attacks="fast")
    rows = tuple(
        row.model_copy(update={"robust": row.clean, "after_attack": (row.clean,) * len(report.attacks)})
        for row in report.classes
    )
    none = {"broken": 0, "forward": 0, "backward": 0, "seconds": 0.0}
    attacks = [attack.model_copy(update={"tried": 256, "untried": 256, **none}) for attack in report.attacks]
    attacks[-1] = attacks[-1].model_copy(update={"tried": 0, "untried": 0})  # no image was left for this attack
    return report.model_copy(update={"classes": rows, "robust": report.clean, "attacks": tuple(attacks)})


def stop_early() -> AuditReport:
    """Return an audit whose last attack did not reach all images."""
    report = sample_audit()
    *first_rows, last = report.attacks
    last_row = last.model_copy(update={"untried": last.tried, "broken": 0, "forward": 0})
    return report.model_copy(update={"attacks": (*first_rows, last_row)})


def test_without_an_attack_the_first_sentence_says_that_none_was_run() -> None:
    """Without an attack, sentence, table and tiles call the clean accuracy an upper bound, not the accuracy under attack."""
    report = stop_before_attacks()
    first, *others = text.verdict(report)
    clean = text.percent(report.clean.mean.rate)
    assert first.startswith(f"No attack was run: accuracy under the preset fast is at most {clean} on average and ")
    assert first.endswith(", as without an attack.")
    assert not any("unequal" in sentence for sentence in others)
    *_, mean = terminal.class_table(report).splitlines()
    assert mean.split()[-len(report.attacks) :] == ["–"] * len(report.attacks)
    page = html.render(report)
    row = next(row for row in Page(page).rows if row[0] == "shirt")
    assert row[4:] == ["–"] * len(report.attacks)
    assert f"≤ {clean}</dd>" in page
    assert page.count("upper bound, attacks unfinished") == 3


def test_of_an_unfinished_audit_the_first_sentence_is_a_bound() -> None:
    """The sentence begins with "At most" and counts unfinished attacks; only columns of attacks that did not run are dashes."""
    report = stop_early()
    first, *_ = text.verdict(report)
    robust = report.robust
    assert first == (
        f"At most {text.percent(robust.mean.rate)} of the images are robust under the preset pgd-20, and at most "
        f"{text.percent(robust.worst.value)} in the worst class, shirt: 1 of 2 attacks is unfinished."
    )
    *_, mean = terminal.class_table(report).splitlines()
    assert mean.split("  ")[-1] == "–"
    assert mean.count("–") == 3  # the others are those of the intervals


@pytest.mark.parametrize(
    ("name", "counts", "line"),
    [
        ("PGD-20", (256, 256, 0, 0), "256 of 256 not tried"),
        ("PGD-20", (256, 100, 30, 5000), "30 of 256 broken, 100 not finished in 2.0 s"),
        ("APGD-50 (dlr) where ≤ 35 % of the margin is left", (0, 0, 0, 0), "no image was close enough to need it"),
        ("PGD-20", (0, 0, 0, 0), "no image was left to try it on"),
    ],
)
def test_an_attack_that_was_not_made_broke_nothing(name: str, counts: tuple[int, ...], line: str) -> None:
    """The line of an attack says why it broke no image: its time was over, or no image was left for it."""
    tried, untried, broken, forward = counts
    row = AttackRow(name=name, tried=tried, untried=untried, broken=broken, forward=forward, backward=0, seconds=2.0)
    assert terminal.row_line(name, row) == f"{name}: {line}"


def keep_original() -> FinetuneReport:
    """Return a fine-tuning that kept the given weights."""
    report = sample_finetune()
    fields = {
        "selected_candidate": 0,
        "selected_interpolation": 0.0,
        "after": report.before,
        "outcome": "kept-original",
    }
    return report.model_copy(update=fields)


def test_kept_weights_are_not_shown_as_a_second_measurement() -> None:
    """If the original is kept, the report shows one audit, without columns before and after, and the sentence says why."""
    report = keep_original()
    first, second, *_ = text.verdict(report)
    assert first == (
        "The original weights are kept: of 4 other candidates, none within the bounds (mean robust accuracy may fall by at "
        "most 1 point, mean clean accuracy may fall by at most 1 point) makes the worst class more robust on the validation "
        "images, by more than a standard error."
    )
    assert second == "No other weights were tested on the test images."
    assert terminal.class_table(report) == terminal.class_table(report.before)
    page = html.render(report)
    heads = [row for row in Page(page).rows if row[0] == "Class"]
    assert not any({"Before", "After", "p (Holm)"} & set(head) for head in heads)
    assert "before " not in page[page.index('<dl class="tiles">') : page.index('id="classes"')]
    assert next(row[2] for row in Page(page).rows if row[0] == "shirt").startswith(
        text.percent(report.before.classes[FASHION.index("shirt")].clean.rate)
    )


@pytest.mark.parametrize(
    ("drop", "expected"), [(0, "may not fall"), (0.01, "by at most 1 point,"), (0.005, "by at most 0.5 points,")]
)
def test_bounds_are_written_in_words(drop: float, expected: str) -> None:
    """A bound of 0 is written as no fall, and other bounds in points."""
    report = keep_original()
    training = report.spec.training.model_copy(update={"max_robust_drop": drop})
    spec = report.spec.model_copy(update={"training": training})
    assert expected in text.verdict(report.model_copy(update={"spec": spec}))[0]


def test_a_first_look_is_named_with_the_conclusion_and_the_tiles() -> None:
    """The report of a fine-tuning under weak attacks says so in its first sentence and beside both robust accuracies."""
    report = sample_finetune()
    assert text.verdict(report)[0].startswith("Upper bound, first look: shirt, the worst class before, ")
    page = html.render(report)
    tiles = page[page.index('<dl class="tiles">') : page.index('id="classes"')]
    assert tiles.count("upper bound, first look") == 2


@pytest.mark.parametrize(
    ("images", "expected"),
    [
        (300, "no accuracy fell significantly."),
        (180, "no accuracy fell significantly."),
        (179, "; in a class of 179 images, only a loss of 9 or more is significant."),
        (10, "; in a class of 10 images, only a loss of 9 or more is significant."),
        (8, "; in a class of 8 images, no fall could be significant."),
    ],
)
def test_no_significant_fall_says_what_could_have_been_shown(images: int, expected: str) -> None:
    """The sentence states the smallest provable fall, 9 images of one of ten classes, if it exceeds 5 points."""
    report = sample_finetune()
    rows = [row.model_copy(update={"images": images}) for row in report.after.classes[:1]]
    after = report.after.model_copy(update={"classes": (*rows, *report.after.classes[1:])})
    assert text.verdict(report.model_copy(update={"after": after}))[0].endswith(expected)


@pytest.mark.parametrize(
    ("share", "explanation"),
    [
        (0.0, "Class offset: a constant added to a class's output; no other weight changed."),
        (0.75, "Class offset: a constant added to a class's output."),
    ],
)
def test_kept_class_offsets_are_explained(share: float, explanation: str) -> None:
    """If class offsets are kept, a sentence explains them, and says so if the other weights did not change."""
    report = sample_finetune().model_copy(update={"selected_interpolation": share, "selected_offset_scale": 0.5})
    sentences = text.verdict(report)
    assert explanation in sentences
    assert any("with 50 % of the class offsets" in sentence for sentence in sentences)
    assert "a constant added to a class&#39;s output" in html.render(report)
    assert not any("Class offset" in sentence for sentence in text.verdict(sample_finetune()))


@pytest.mark.parametrize(
    ("share", "offsets", "label"),
    [
        (0, 0, "as given"),
        (0, 1, "all class offsets"),
        (0, 0.5, "50 % of the class offsets"),
        (0.25, 0.5, "50 % of the class offsets, 25 % of the way to the best epoch"),
        (0.25, 0, "25 % of the way to the best epoch"),
        (1, 0, "best epoch"),
        (1, 1, "all class offsets, best epoch"),
    ],
)
def test_a_candidate_is_called_by_both_its_numbers(share: float, offsets: float, label: str) -> None:
    """The label of a candidate has its interpolation and its scale of the class offsets."""
    assert (
        candidate_label(
            Candidate(interpolation=share, offset_scale=offsets, clean=1, robust=1, robust_worst=1, on_front=True),
            sample_finetune(),
        )
        == label
    )


@pytest.mark.parametrize(("method", "scales"), [(HeadMethod(), None), (HwnwbMethod(), (1.0,) * 10)])
def test_a_report_without_training_says_what_was_changed(
    method: HeadMethod | HwnwbMethod, scales: tuple[float, ...] | None
) -> None:
    """Where nothing was trained, sentences and page name the change of the last layer, and no epoch or time limit."""
    report = sample_finetune()
    candidates = [
        one.model_copy(update={"interpolation": 0.0, "offset_scale": one.interpolation}) for one in report.candidates
    ]
    changes = {"epochs": (), "selected_epoch": 0, "selected_interpolation": 0.0, "selected_offset_scale": 0.75}
    spec = report.spec.model_copy(update={"method": method})
    report = report.model_copy(
        update={"spec": spec, "candidates": tuple(candidates), "unscaled_row_scales": scales, **changes}
    )
    labels = ["row scales to the power 0.25", "row scales to the power 0.75", "row scales"]
    labels = labels if scales else ["25 % of the class offsets", "75 % of the class offsets", "all class offsets"]
    sentences = text.verdict(report)
    assert f"FAAL kept the given weights with {labels[1]}." in sentences
    assert any(sentence.endswith("; no other weight changed.") for sentence in sentences)
    page = html.render(report)
    assert {row[1] for row in Page(page).rows if len(row) == 7} >= {"as given", labels[0], labels[2]}
    assert "no training" in page
    assert "epoch" not in page[: page.index('id="reproduction"')].lower()
    assert training_cut(report) == ""


def test_the_table_of_candidates_decodes_the_numbers_of_the_chart() -> None:
    """The table has one row for each candidate, with its number in the chart and its label."""
    rows = {row[0]: row[1] for row in Page(html.render(sample_finetune())).rows if len(row) == 7}
    assert rows["0"] == "as given"
    assert rows["3 (kept)"] == "75 % of the way to the best epoch"


def test_tied_worst_classes_are_counted_and_numbers_are_quoted() -> None:
    """Several classes with the lowest rate are counted instead of named; a name without a letter is quoted."""
    digits = tuple(map(str, range(10)))
    tied_report = sample_audit(digits, [-9.0] * 3 + [0.9] * 7, images=100)
    assert " 0.0 % (0.0–5.8) in 3 classes (upper bound" in text.verdict(tied_report)[0]
    assert '<dd class="note">in 3 classes</dd>' in html.render(tied_report)
    one = sample_audit(digits, [0.2] + [0.9] * 9)
    assert 'in the worst class, class "0" (upper bound' in text.verdict(one)[0]
    digit_report = sample_finetune(digits, [0.2] + [0.9] * 9, [0.5] + [0.9] * 9)
    assert re.match(
        r'Upper bound, first look: class "0", the worst class before, is more robust: ', text.verdict(digit_report)[0]
    )


def test_the_table_for_a_terminal_is_no_wider_than_a_window() -> None:
    """With the seven attacks of `fast`, a line has at most 120 columns; robust accuracy is second, and the key is last."""
    report = sample_audit(attacks="fast")
    lines = terminal.class_table(report).splitlines()
    assert max(map(len, lines)) <= 120
    assert re.split(r"  +", lines[0])[:4] == ["class", "clean", "robust", "after 1"]
    key = terminal.summary(report).splitlines()[-len(report.attacks) :]
    assert key == [f"after {k}: {attack.name}" for k, attack in enumerate(report.attacks, start=1)]
