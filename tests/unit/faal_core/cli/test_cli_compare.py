"""`faal compare` reads reports, prints what changed, and exits by it when asked to."""

import json
from pathlib import Path

import pytest

from faal_core.reports import files
from faal_core.results.reading import read_any_report
from tests.command_line import run_faal
from tests.sample_reports import ROBUST_AFTER, ROBUST_BEFORE, sample_audit, sample_outcomes


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with audits of two classifiers on the same images."""
    for name, robust, seed in (("before", ROBUST_BEFORE, 1), ("after", ROBUST_AFTER, 2)):
        report, outcomes = sample_outcomes(robust=robust, seed=seed)
        files.save(report, tmp_path / name, outcomes)
    return tmp_path


def test_two_reports_are_compared(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The first line lists the significant changes; the folder gets the document and its page."""
    assert run_faal(monkeypatch, folder, "compare", "before", "after/report.json", "--out", "out") == 0
    printed = capsys.readouterr().out
    assert printed.startswith("Significantly higher: robust accuracy of shirt (+16.7 points)")
    assert "are compared image by image, on the same 3,000 images." in printed
    document = read_any_report((folder / "out/report.json").read_text())
    assert (document.kind, document.pairing) == ("comparison", "paired")
    assert "Comparison of two audits" in (folder / "out/report.html").read_text()
    assert run_faal(monkeypatch, folder, "render", "out/report.json", "-o", "again.html") == 0
    assert (folder / "again.html").read_text() == (folder / "out/report.html").read_text()


def test_a_fall_sets_the_exit_status(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With --fail-if-worse, a significant fall exits with 5; a rise and equal audits exit with 0."""
    for pair, status in ((("after", "before"), 5), (("before", "after"), 0), (("before", "before"), 0)):
        assert run_faal(monkeypatch, folder, "compare", *pair, "--fail-if-worse") == status
    assert run_faal(monkeypatch, folder, "compare", "after", "before") == 0


def test_more_reports_make_a_table(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Three reports are listed, the best worst class first, with the radius in every row."""
    assert run_faal(monkeypatch, folder, "compare", "before", "after", "before", "--json") == 0
    document = json.loads(capsys.readouterr().out)
    lows = [one["robust"]["worst"]["low"] for one in document["audits"]]
    assert (document["kind"], lows) == ("model-table", sorted(lows, reverse=True))
    assert run_faal(monkeypatch, folder, "compare", "before", "after", "before", "--out", "out") == 0
    printed = capsys.readouterr().out
    assert printed.count("L∞ ε = 0.1 ") == 3
    assert "[" not in printed  # one name, one digest of weights
    report, _ = sample_outcomes()
    other = report.classifier.model_copy(update={"sha256": "77" * 32})
    (folder / "other.json").write_text(report.model_copy(update={"classifier": other}).model_dump_json())
    assert run_faal(monkeypatch, folder, "compare", "before", "other.json", "before") == 0
    assert "fashion-resnet [77777777]" in capsys.readouterr().out
    assert "Table of models" in (folder / "out/report.html").read_text()


def test_a_report_without_outcomes_is_compared_by_counts(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A missing outcomes file is named; a file of another report is refused with its path."""
    (folder / "before/outcomes.parquet").unlink()
    assert run_faal(monkeypatch, folder, "compare", "before", "after") == 0
    assert "not stored beside the report of fashion-resnet" in capsys.readouterr().out
    (folder / "before/outcomes.parquet").write_bytes((folder / "after/outcomes.parquet").read_bytes())
    assert run_faal(monkeypatch, folder, "compare", "before", "after") == 1
    assert "before/outcomes.parquet does not hold the outcomes of this report" in capsys.readouterr().err


def test_wrong_arguments_are_refused(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One report, other attacks and files that are no reports are refused in a sentence."""
    (folder / "other.json").write_text(sample_audit(attacks="quick").model_dump_json())
    (folder / "text.json").write_text("no report")
    for arguments, status, message in (
        (("before",), 2, "name at least two reports"),
        (("before", "after", "before", "--fail-if-worse"), 2, "needs exactly two reports"),
        (("before", "other.json"), 1, "different attacks"),
        (("before", "text.json"), 1, "text.json is not a report"),
        (("before", "missing"), 2, "does not exist"),
    ):
        assert run_faal(monkeypatch, folder, "compare", *arguments) == status, arguments
        assert message in capsys.readouterr().err, arguments
