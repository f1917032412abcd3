"""Model cards: huggingface_hub reads the results, and hostile names change neither metadata nor text."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from huggingface_hub import ModelCard
from huggingface_hub.repocard_data import eval_results_to_model_index, model_index_to_eval_results
from markdown_it import MarkdownIt

from faal_core.errors import InvalidSpec
from faal_core.exports.huggingface import BEGIN, END, write_model_card
from faal_core.reports.wording import sanitise, with_bounds
from faal_core.threat_model import ThreatModel
from tests.hostile_names import HOSTILE_NAMES
from tests.sample_reports import WARNING, sample_audit, sample_finetune

CARD = """---
license: mit
tags:
- vision
model-index:
- name: signs
  results:
  - task:
      type: image-classification
    dataset:
      name: Signs
      type: me/signs
    metrics:
    - type: f1
      value: 0.5
      name: F1
---

# Signs

Written by hand.

<!-- faal: begin -->
Old.
<!-- faal: end -->

The end.
"""


def read_results(path: Path) -> dict:
    """Return the results in a card's metadata by name, as huggingface_hub's parser reads them."""
    metadata = yaml.safe_load(path.read_text("utf-8").split("---\n")[1])
    _, results = model_index_to_eval_results(metadata["model-index"])
    assert eval_results_to_model_index(metadata["model-index"][0]["name"], results) == metadata["model-index"]
    return {result.metric_name: result for result in results}


def test_the_results_are_those_of_the_report(tmp_path: Path):
    """Each result has value, bounds and data of the report, and the radius in its name."""
    report = sample_audit(warnings=(WARNING,), groups=("day", "night"))
    write_model_card(report, path=tmp_path / "README.md", dataset_id="me/fashion")
    results = read_results(tmp_path / "README.md")
    robust = "L∞ ε = 0.1, preset pgd-20, upper bound, first look"
    expected: dict[str, Any] = {
        "Clean accuracy (ε = 0)": report.clean.mean,
        "Clean accuracy of the worst class (ε = 0)": report.clean.worst,
        f"Robust accuracy ({robust})": report.robust.mean,
        f"Robust accuracy of the worst class ({robust})": report.robust.worst,
    }
    assert results.keys() == expected.keys()
    for name, estimate in expected.items():
        result = results[name]
        assert result.metric_value == pytest.approx(getattr(estimate, "rate", None) or estimate.value, abs=1e-6)
        assert (result.metric_args["low"], result.metric_args["high"]) == pytest.approx(
            (estimate.low, estimate.high), abs=1e-6
        )
        assert (result.task_type, result.dataset_type) == ("image-classification", "me/fashion")
        assert (result.dataset_name, result.dataset_split) == ("fashion-mnist-subset", "test")
    assert results[f"Robust accuracy ({robust})"].metric_args["epsilon"] == 0.1
    text = ModelCard.load(tmp_path / "README.md").text
    assert f"| shirt | 300 | {with_bounds(report.classes[6].clean)} | {with_bounds(report.classes[6].robust)} |" in text
    for part in (
        "### Scope",
        "### Warnings",
        "gradients-vanish",
        "### Limits",
        "### Groups",
        "3,000 of the test part",
        "a9a9",
    ):
        assert part in text


def test_an_existing_card_keeps_its_own(tmp_path: Path):
    """Other metadata, results and text stay; an export replaces the section and the results of an earlier one."""
    path = tmp_path / "README.md"
    path.write_text(CARD)
    write_model_card(sample_audit(), path=path)
    once = path.read_text("utf-8")
    assert read_results(path).keys() > {"F1"}
    card = ModelCard(once)
    assert (card.data.license, card.data.model_name) == ("mit", "signs")
    assert card.data.tags == ["vision", "adversarial-robustness"]
    assert card.text.startswith("\n# Signs\n\nWritten by hand.\n\n")
    assert card.text.endswith(f"{END}\n\nThe end.\n")
    assert "Old." not in once
    write_model_card(sample_audit(), path=path)
    assert path.read_text("utf-8") == once


def test_hostile_names_are_shown_as_they_are(tmp_path: Path):
    """A Markdown parser reads each name as the text of a cell: no markup, no link, no further column, no end of the section."""
    rates = [0.5] * len(HOSTILE_NAMES)
    path = tmp_path / "README.md"
    write_model_card(sample_finetune(HOSTILE_NAMES, rates, rates), path=path)
    assert len(read_results(path)) == 4
    tokens = MarkdownIt().enable("table").parse(ModelCard.load(path).text)
    parts = [part for token in tokens for part in [token, *(token.children or ())]]
    assert [part.content.strip() for part in parts if part.type.startswith("html")] == [BEGIN, END]
    assert {part.type for part in parts} & {
        "link_open",
        "image",
        "code_inline",
        "fence",
        "em_open",
        "strong_open",
    } == set()
    starts = [place for place, token in enumerate(tokens) if token.type == "tr_open"]
    first_cells = ["".join(part.content for part in tokens[place + 2].children or ()) for place in starts]
    assert set(first_cells) - {"threat model", "L∞ ε = 0.1", "class"} == {
        sanitise(name).strip() for name in HOSTILE_NAMES
    }
    assert len(first_cells) == len(HOSTILE_NAMES) + 3


def test_a_fine_tuning_has_the_results_after_it(tmp_path: Path):
    """The results are those of the kept weights, and the table has the changes."""
    report = sample_finetune()
    path = tmp_path / "README.md"
    write_model_card(report, path=path)
    (worst,) = [value for name, value in read_results(path).items() if name.startswith("Robust accuracy of the worst")]
    assert worst.metric_value == pytest.approx(report.after.robust.worst.value, abs=1e-6)
    assert "| conclusion |" in path.read_text("utf-8")


def test_a_fine_tuning_that_kept_the_weights_is_an_audit(tmp_path: Path):
    """If the original weights were kept, the card neither says that they were fine-tuned nor has changes."""
    report = sample_finetune()
    kept = {"after": report.before, "selected_candidate": 0, "outcome": "kept-original"}
    write_model_card(report.model_copy(update=kept), path=tmp_path / "README.md")
    text = (tmp_path / "README.md").read_text("utf-8")
    assert "The original weights are kept" in text
    assert "| conclusion |" not in text
    assert "Fine-tuned on" not in text


def test_the_table_has_the_worst_of_many_classes(tmp_path: Path):
    """Of 60 classes the table has the 50 least robust ones, and a line the number of the others."""
    names = tuple(f"class {number}" for number in range(60))
    write_model_card(sample_audit(names, [0.2 + number / 100 for number in range(60)]), path=tmp_path / "README.md")
    text = (tmp_path / "README.md").read_text("utf-8")
    assert text.count("\n| class ") == 51  # with the head
    assert "10 more classes, all more robust than these, are in the report." in text


def test_each_radius_has_its_results(tmp_path: Path):
    """Several audits give the robust results of each radius, and the clean results once."""
    report = sample_audit()
    spec = report.spec.model_copy(update={"threat": ThreatModel(epsilon="8/255")})
    write_model_card(report, report.model_copy(update={"spec": spec}), path=tmp_path / "README.md")
    names = read_results(tmp_path / "README.md")
    assert len(names) == 6
    assert sum("ε = 8/255" in name for name in names) == 2


def test_a_card_with_broken_metadata_is_refused(tmp_path: Path):
    """A card that cannot be read is refused, and stays as it is."""
    path = tmp_path / "README.md"
    for broken in ("---\n- a\n---\n", "---\na: [\n---\n"):
        path.write_text(broken)
        with pytest.raises(InvalidSpec, match="no valid model card"):
            write_model_card(sample_audit(), path=path)
        assert path.read_text() == broken
