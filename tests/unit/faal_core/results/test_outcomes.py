"""Outcomes are read back as they were written, and only beside the report that they belong to."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from faal_core.errors import InvalidSpec
from faal_core.reports import files
from faal_core.results.documents import AuditReport
from faal_core.results.outcomes import Outcomes, read_outcomes
from faal_core.results.reading import read_audit
from tests.sample_reports import sample_finetune, sample_outcomes


@pytest.fixture
def sample() -> tuple[AuditReport, Outcomes]:
    """Return an audit of 3,000 images with a column of groups, and its outcomes."""
    return sample_outcomes(groups=("left", "rechts ∅"))


def test_outcomes_are_read_as_they_were_written(sample: tuple[AuditReport, Outcomes], tmp_path: Path) -> None:
    """Every value survives the file, and the digest with it."""
    report, outcomes = sample
    files.save(report, tmp_path, outcomes)
    stored = read_audit(tmp_path)
    assert stored.report == report
    assert stored.outcomes is not None
    assert stored.outcomes.columns(report) == outcomes.columns(report)
    assert stored.outcomes.sha256 == outcomes.sha256 == report.outcomes_sha256


def test_the_digest_is_the_documented_one(sample: tuple[AuditReport, Outcomes]) -> None:
    """The digest is that of the columns' bytes, computed here from the documented format alone."""
    _, outcomes = sample
    one = outcomes.evaluation
    content = b""
    for name, kind, values in (
        ("image", "<i8", outcomes.rows),
        ("label", "<i8", one.labels),
        ("clean_prediction", "<i8", one.clean),
        ("attacked_prediction", "<i8", one.attacked),
        ("attack", "<i8", one.broken_by),
        ("clean_margin", "<f8", one.clean_margin),
        ("margin", "<f8", one.margin),
        ("distance", "<f8", one.distance),
    ):
        content += json.dumps(name).encode() + b"\n" + np.asarray(values, kind).tobytes()
    for name, texts in (("sha256", one.sha256), ("group camera", outcomes.groups["camera"])):
        content += json.dumps(name).encode() + b"\n" + json.dumps(list(texts)).encode()
    assert outcomes.sha256 == hashlib.sha256(content).hexdigest()


@pytest.mark.parametrize("field", ["labels", "clean", "attacked", "broken_by", "distance", "clean_margin", "margin"])
def test_a_changed_value_changes_the_digest(sample: tuple[AuditReport, Outcomes], field: str) -> None:
    """One other number anywhere gives another digest."""
    _, outcomes = sample
    values = getattr(outcomes.evaluation, field).copy()
    values[17] = 5 if values.dtype.kind == "i" else np.nextafter(values[17], 2)
    changed = Outcomes(replace(outcomes.evaluation, **{field: values}), outcomes.rows, outcomes.groups)
    assert changed.sha256 != outcomes.sha256


def test_foreign_files_are_refused(sample: tuple[AuditReport, Outcomes], tmp_path: Path) -> None:
    """Outcomes of another audit, with other rows or too few columns, and files that are no Parquet are refused."""
    report, outcomes = sample
    path = tmp_path / "outcomes.parquet"
    outcomes.write(path, report)
    table = pq.read_table(path)
    foreign = {
        "changed": table.set_column(1, "label", pa.array([1] * len(table))),
        "fewer": table.slice(1),
        "no column": table.drop_columns(["margin"]),
        "texts": table.set_column(1, "label", pa.array(["1"] * len(table))),
        "null": table.set_column(1, "label", pa.array([None] * len(table), "int64")),
    }
    for case, content in foreign.items():
        pq.write_table(content, path)
        with pytest.raises(InvalidSpec, match="does not hold the outcomes of this report"):
            read_outcomes(path, report)
        assert case
    path.write_bytes(b"PAR1" + bytes(100) + b"PAR1")
    with pytest.raises(InvalidSpec, match="does not hold the outcomes of this report"):
        read_outcomes(path, report)


@pytest.mark.parametrize(("field", "value"), [("labels", 10), ("labels", -1), ("clean", 2**40), ("broken_by", 2)])
def test_forged_outcomes_are_refused(
    sample: tuple[AuditReport, Outcomes], tmp_path: Path, field: str, value: int
) -> None:
    """A class or an attack that the report does not have is refused, even if the digest in the report was adapted."""
    report, outcomes = sample
    values = getattr(outcomes.evaluation, field).copy()
    outcomes.write(tmp_path / "outcomes.parquet", report)
    columns = {"labels": "label", "clean": "clean_prediction", "broken_by": "attack"}
    values[3] = value
    forged = Outcomes(replace(outcomes.evaluation, **{field: values}), outcomes.rows, outcomes.groups)
    table = pq.read_table(tmp_path / "outcomes.parquet")
    column = table.column_names.index(columns[field])
    stored = [None if number < 0 else int(number) + 1 for number in values] if field == "broken_by" else values.tolist()
    pq.write_table(table.set_column(column, columns[field], pa.array(stored)), tmp_path / "outcomes.parquet")
    report = report.model_copy(update={"outcomes_sha256": forged.sha256})
    with pytest.raises(InvalidSpec, match="does not hold the outcomes of this report"):
        read_outcomes(tmp_path / "outcomes.parquet", report)


def test_a_report_without_outcomes_is_read(sample: tuple[AuditReport, Outcomes], tmp_path: Path) -> None:
    """A report whose outcomes are missing, or that is older than they are, is read without them."""
    report, outcomes = sample
    files.save(report, tmp_path, outcomes)
    (tmp_path / "report.json").write_text(report.model_copy(update={"outcomes_sha256": ""}).model_dump_json())
    assert read_audit(tmp_path / "report.json").outcomes is None
    (tmp_path / "report.json").write_text(report.model_dump_json())
    (tmp_path / "outcomes.parquet").unlink()
    assert read_audit(tmp_path).outcomes is None


def test_other_files_are_no_reports(tmp_path: Path) -> None:
    """Any other file is refused by its name."""
    (tmp_path / "x.json").write_text("{}")
    with pytest.raises(InvalidSpec, match=r"x\.json is not a report that FAAL has written"):
        read_audit(tmp_path / "x.json")


def test_the_audit_of_a_fine_tuning_is_that_of_the_new_weights(tmp_path: Path) -> None:
    """Of the two audits in a fine-tuning's report, the second one is read."""
    report = sample_finetune()
    (tmp_path / "report.json").write_text(report.model_dump_json())
    assert read_audit(tmp_path).report == report.after
