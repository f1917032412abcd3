"""Reports to export are read and checked, and their files are written."""

from pathlib import Path

import pytest

from faal_core.errors import InvalidSpec
from faal_core.exports.classes import list_columns
from faal_core.exports.facts import list_facts, list_states
from faal_core.exports.stored_report import read_series, write_files
from faal_core.reports.files import save
from faal_core.results.audit_comparison import compare_audits
from faal_core.results.documents import AuditReport
from faal_core.results.reading import StoredAudit
from faal_core.threat_model import ThreatModel
from tests.sample_reports import WARNING, sample_audit, sample_finetune, sample_outcomes

AUDIT = sample_audit()


def at_radius(epsilon: float, audit: AuditReport = AUDIT, **changes: object) -> AuditReport:
    """Return the audit with another radius."""
    spec = audit.spec.model_copy(update={"threat": ThreatModel(epsilon=epsilon), **changes})
    return audit.model_copy(update={"spec": spec})


def test_several_radii_are_sorted():
    """Audits that differ in the radius alone are returned smallest radius first."""
    series = read_series([at_radius(0.2), at_radius(0.05), AUDIT])
    assert [one.report.spec.threat.epsilon for one in series] == [0.05, 0.1, 0.2]


@pytest.mark.parametrize(
    ("others", "reason"),
    [
        ([sample_finetune()], "by itself"),
        ([at_radius(0.1)], "same radius"),
        ([at_radius(0.2, seed=1)], "attacks or other settings"),
        ([at_radius(0.2, threat=ThreatModel(norm="l2", epsilon=0.2))], "norm"),
        (
            [AUDIT.model_copy(update={"classifier": AUDIT.classifier.model_copy(update={"sha256": "00" * 32})})],
            "classifier",
        ),
        ([AUDIT.model_copy(update={"dataset": AUDIT.dataset.model_copy(update={"sha256": "00" * 32})})], "data set"),
    ],
)
def test_reports_that_are_no_series_are_refused(others: list, reason: str):
    """Reports that differ in more than the radius are refused, with the difference."""
    with pytest.raises(InvalidSpec, match=reason):
        read_series([AUDIT, *others])


def test_a_file_that_is_no_report_is_refused(tmp_path: Path):
    """Another JSON file, or no report at all, is refused with a sentence."""
    (tmp_path / "other.json").write_text("{}")
    with pytest.raises(InvalidSpec, match=r"other\.json is not a report that FAAL has written"):
        read_series([tmp_path / "other.json"])
    with pytest.raises(InvalidSpec, match="no report to export"):
        read_series([])
    comparison = compare_audits(StoredAudit(AUDIT, None), StoredAudit(AUDIT, None))
    (tmp_path / "report.json").write_text(comparison.model_dump_json())
    with pytest.raises(InvalidSpec, match=r"report\.json is a comparison\. Export the reports of the audits"):
        read_series([tmp_path])


def test_files_are_those_beside_the_report(tmp_path: Path):
    """The JSON is stored byte for byte, with its page, the classes, and the outcomes of images where there are any."""
    report, outcomes = sample_outcomes()
    save(report, tmp_path, outcomes)
    document = report.model_dump_json().encode() + b"\n"
    (tmp_path / "report.json").write_bytes(document)
    series = read_series([tmp_path / "report.json", at_radius(0.05)])
    for folder, stored in {"one": series[1:], "two": series}.items():
        (tmp_path / folder).mkdir()
        write_files(stored, list_columns([report]), tmp_path / folder)
    assert (tmp_path / "one/report.json").read_bytes() == document
    assert "<html" in (tmp_path / "one/report.html").read_text("utf-8")
    assert (tmp_path / "one/outcomes.parquet").read_bytes() == (tmp_path / "outcomes.parquet").read_bytes()
    files = {str(path.relative_to(tmp_path / "two")) for path in (tmp_path / "two").rglob("*") if path.is_file()}
    pages = {f"radius-{number}/report.{ending}" for number in (1, 2) for ending in ("json", "html")}
    assert files == {"classes.csv", "radius-2/outcomes.parquet", *pages}


def test_outcomes_of_another_audit_are_refused(tmp_path: Path):
    """A file of outcomes that the report does not name is not exported with it."""
    save(sample_outcomes()[0], tmp_path, sample_outcomes(seed=2)[1])
    with pytest.raises(InvalidSpec, match="does not hold the outcomes of this report"):
        write_files(read_series([tmp_path / "report.json"]), {}, tmp_path)


def test_facts_and_states_name_what_was_measured():
    """Parameters hold digests, threat model and attacks; states say whether the robust numbers are final."""
    report = sample_audit(warnings=(WARNING,))
    facts, states = list_facts([report]), list_states([report])
    assert (facts["norm"], facts["epsilon"], facts["attacks"]) == (
        "linf",
        "0.1",
        "PGD-20 (cross-entropy), PGD-20 (margin)",
    )
    assert (facts["classifier_sha256"], facts["dataset_sha256"]) == ("3f" * 32, "a9" * 32)
    assert (states["complete"], states["first_look"], states["warnings"]) == ("true", "true", "gradients-vanish")
    assert states["worst_class"] == "shirt"
    assert list_facts([at_radius(4 / 255), at_radius(8 / 255)])["epsilon"] == "4/255, 8/255"
    tuned = list_facts([sample_finetune()])
    assert (tuned["method.type"], tuned["training.learning_rates"]) == ("faal", "[0.01, 0.01, 0.001]")
    assert list_states([sample_finetune()])["outcome"] == sample_finetune().outcome
