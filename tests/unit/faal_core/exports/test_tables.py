"""Tables of classes, and the arrays for Fairlearn, have the numbers of the report."""

import csv
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from fairlearn.metrics import MetricFrame
from sklearn.metrics import accuracy_score

from faal_core.errors import InvalidSpec
from faal_core.exports.classes import write_classes
from faal_core.exports.fairlearn import fairness_arrays
from faal_core.threat_model import ThreatModel
from tests.sample_reports import FASHION, sample_audit, sample_finetune, sample_outcomes

CAMERAS = ("day", "night", "dawn")


@pytest.mark.parametrize(("under_attack", "kind"), [(True, "robust"), (False, "clean")])
def test_fairlearn_finds_the_rates_of_the_report(under_attack: bool, kind: str):
    """The accuracies of Fairlearn's MetricFrame are the rates of classes, groups and all images in the report."""
    report, outcomes = sample_outcomes(groups=CAMERAS)
    arrays = fairness_arrays(report, outcomes, under_attack=under_attack)
    frame = MetricFrame(metrics=accuracy_score, **arrays._asdict())
    assert dict(frame.by_group) == {row.name: getattr(row, kind).rate for row in report.classes}
    assert frame.overall == getattr(report, kind).mean.rate
    assert frame.group_min() == getattr(report, kind).worst.value
    arrays = fairness_arrays(report, outcomes, under_attack=under_attack, group_column="camera")
    frame = MetricFrame(metrics=accuracy_score, **arrays._asdict())
    assert dict(frame.by_group) == {row.name: getattr(row, kind).rate for row in report.groups[0].groups}


def test_outcomes_that_do_not_fit_are_refused():
    """Outcomes of another audit, and a column of groups that the data set lacks, are refused."""
    report, outcomes = sample_outcomes(groups=CAMERAS)
    with pytest.raises(InvalidSpec, match="Its columns: camera"):
        fairness_arrays(report, outcomes, group_column="site")
    with pytest.raises(InvalidSpec, match="not those of this report"):
        fairness_arrays(sample_outcomes(seed=2)[0], outcomes)


def test_the_table_has_a_row_for_each_class(tmp_path: Path):
    """CSV and Parquet have the classes with their rates; Parquet also the settings."""
    report = sample_audit()
    write_classes(report, path=tmp_path / "classes.csv")
    with (tmp_path / "classes.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["class"], float(row["robust"]), float(row["robust_low"])) for row in rows] == [
        (row.name, row.robust.rate, row.robust.low) for row in report.classes
    ]
    write_classes(report, path=tmp_path / "classes.parquet")
    table = pq.read_table(tmp_path / "classes.parquet")
    assert table["robust"].to_pylist() == [row.robust.rate for row in report.classes]
    assert b'"epsilon": "0.1"' in table.schema.metadata[b"faal"]


def test_several_radii_and_fine_tunings_have_further_columns(tmp_path: Path):
    """Several audits become one table with the radius; a fine-tuning's table has the changes."""
    report = sample_audit()
    spec = report.spec.model_copy(update={"threat": ThreatModel(epsilon=0.05)})
    write_classes(report, report.model_copy(update={"spec": spec}), path=tmp_path / "radii.parquet")
    table = pq.read_table(tmp_path / "radii.parquet")
    assert table["epsilon"].to_pylist() == [0.05] * 10 + [0.1] * 10
    assert table["class"].to_pylist() == [*FASHION, *FASHION]
    tuned = sample_finetune()
    write_classes(tuned, path=tmp_path / "tuned.parquet")
    table = pq.read_table(tmp_path / "tuned.parquet")
    assert table["robust"].to_pylist() == table["robust_after"].to_pylist()
    assert table["robust_verdict"].to_pylist() == [row.verdict for row in tuned.robust.classes]
