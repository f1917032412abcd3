"""`faal gate`: options, policy files, exit statuses, outputs, and baselines."""

import json
from pathlib import Path

import pytest

from faal_core.reports import files
from faal_core.results.gates.documents import GateResult
from tests.command_line import run_faal
from tests.sample_reports import FASHION, ROBUST_BEFORE, sample_finetune, sample_outcomes


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with an audit, one with a class that fell, one of other images, a fine-tuning, and faulty policies."""
    folder = tmp_path_factory.mktemp("reports")
    fallen = [rate - 0.3 * (name == "bag") for name, rate in zip(FASHION, ROBUST_BEFORE, strict=True)]
    for name, robust in (("audit", ROBUST_BEFORE), ("fallen", fallen)):
        report, outcomes = sample_outcomes(robust=robust, groups=("day", "night"))
        files.save(report, folder / name, outcomes)
    report, outcomes = sample_outcomes(images=20)
    dataset = report.dataset.model_copy(update={"sha256": "00" * 32})
    files.save(report.model_copy(update={"dataset": dataset}), folder / "other", outcomes)
    (folder / "finetune.json").write_text(sample_finetune().model_dump_json())
    (folder / "wrong.yaml").write_text("min_wurst: 0.2\n")
    (folder / "double.yaml").write_text("min_worst: 0.2\nmin_worst: 0.3\n")
    return folder


@pytest.fixture
def gate(folder: Path, monkeypatch: pytest.MonkeyPatch):
    """Return a function that runs `faal gate` in the folder and returns its exit status."""
    monkeypatch.delenv("GITHUB_ACTIONS", raising=False)
    return lambda *arguments: run_faal(monkeypatch, folder, "gate", *arguments)


@pytest.mark.parametrize(
    ("options", "status"),
    [
        (("--min-worst", "0.2"), 0),
        (("--min-worst", "0.4"), 6),
        (("--min-worst", "0.4", "--undecided", "pass"), 0),
        (("--min-worst", "0.9"), 3),
        (("--min-robust", "0.7", "--min-clean", "0.9", "--max-gap", "0.6"), 0),
        (("--min-class", "shirt=0.2", "--min-class", "bag=0.99"), 3),
        (("--min-group", "camera=0.6"), 0),
        (("--min-worst", "0.3", "--confidence", "0.9999999"), 6),
        (("--baseline", "audit/report.json"), 0),
        (("--baseline", "audit"), 0),
    ],
)
def test_the_status_is_the_result(gate, options: tuple[str, ...], status: int) -> None:
    """0 is passed, 3 failed and 6 undecided."""
    assert gate("audit/report.json", *options) == status


def test_a_regression_fails(gate, capsys: pytest.CaptureFixture[str]) -> None:
    """The class that fell significantly more than the tolerance is named; a larger tolerance passes."""
    assert gate("fallen", "--baseline", "audit/report.json") == 3
    assert "FAIL       baseline.robust.classes (bag) fall ≤ 1 point." in capsys.readouterr().out
    assert gate("fallen", "--baseline", "audit", "--tolerance", "0.5") == 0


def test_a_finetuning_has_its_own_baseline(gate, capsys: pytest.CaptureFixture[str]) -> None:
    """Without --baseline the audit of the new weights is compared with that of the original ones."""
    assert gate("finetune.json", "--tolerance", "0.02") == 0
    assert "baseline.robust.mean" in capsys.readouterr().out


def test_options_override_the_policy(gate, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The file's requirements hold, options replace or add single ones, and the JSON has all of them."""
    (folder / "policy.yaml").write_text("min_worst: 0.9\nmin_class: {bag: 0.1}\nscope: {epsilon: 8/255}\n")
    assert gate("audit/report.json", "--policy", "policy.yaml") == 3
    capsys.readouterr()
    options = ("--min-worst", "0.2", "--min-class", "shirt=0.1", "--json")
    assert gate("audit/report.json", "--policy", "policy.yaml", *options) == 0
    result = GateResult.model_validate_json(capsys.readouterr().out)
    assert result.policy.min_worst == 0.2
    assert result.policy.min_class == {"bag": 0.1, "shirt": 0.1}
    assert result.policy.scope.epsilon == 8 / 255


def test_all_formats_are_written_at_once(gate, folder: Path) -> None:
    """Each format has a file of its own beside what is printed."""
    assert gate("audit", "--min-worst", "0.9", "--junit", "j.xml", "--sarif", "s.json", "--markdown", "m.md") == 3
    assert 'failures="1"' in (folder / "j.xml").read_text("utf-8")
    sarif = json.loads((folder / "s.json").read_text("utf-8"))
    (location,) = sarif["runs"][0]["results"][0]["locations"]
    assert location["physicalLocation"]["artifactLocation"]["uri"] == "audit/report.json"
    assert (folder / "m.md").read_text("utf-8").startswith("### Robustness gate: failed: 0 met, 1 not met")


def test_in_github_actions_the_job_is_annotated(
    gate, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The summary gets the Markdown in addition to what it had; annotations leave standard output to the JSON."""
    (folder / "summary.md").write_text("# Before\n")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(folder / "summary.md"))
    assert gate("audit/report.json", "--min-worst", "0.9") == 3
    assert "::" not in capsys.readouterr().err
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    assert gate("audit/report.json", "--min-worst", "0.9", "--json") == 3
    output = capsys.readouterr()
    assert json.loads(output.out)["status"] == "fail"
    assert output.err.startswith("::error title=faal gate%3A min_worst::The robust accuracy of the worst class")
    assert (folder / "summary.md").read_text("utf-8").startswith("# Before\n### Robustness gate: failed")


@pytest.mark.parametrize(
    ("options", "status", "message"),
    [
        ((), 2, "the policy has no requirement"),
        (("--min-worst", "1.5"), 2, "--min-worst: 1.5 should be less than or equal to 1"),
        (("--undecided", "perhaps", "--min-worst", "0.1"), 2, "--undecided: 'perhaps' is none of fail, pass"),
        (("--tolerance", "-1", "--baseline", "audit"), 2, "--tolerance: -1.0 should be greater than or equal to 0"),
        (("--min-class", "0.4"), 2, "write a name and a rate, such as cat=0.4"),
        (("--min-class", "bag=0.99", "--min-class", "bag=0.01"), 2, "--min-class: 'bag' is named twice"),
        (("--min-group", "camera=0.9", "--min-group", "camera=0.1"), 2, "--min-group: 'camera' is named twice"),
        (("--min-class", "cat=0.4"), 1, "the report has no 'cat'"),
        (("--policy", "wrong.yaml"), 2, "wrong.yaml: min_wurst: there is no such field; did you mean"),
        (
            ("--policy", "double.yaml"),
            2,
            "--policy: double.yaml is not a policy in YAML: the key 'min_worst' occurs twice",
        ),
        (("--tolerance", "0.1"), 1, "Pass --baseline FILE"),
        (("--baseline", "other"), 1, "different images"),
    ],
)
def test_errors_name_the_option(
    gate, folder: Path, capsys: pytest.CaptureFixture[str], options: tuple[str, ...], status: int, message: str
) -> None:
    """Wrong arguments exit with 2 and say what to write; a policy that does not fit the report exits with 1."""
    assert gate("audit/report.json", *options) == status
    error = capsys.readouterr().err
    assert message in error
    assert not error.startswith("options")


def test_an_edited_report_is_no_report(gate, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A report without a class, or with more correct images than there are, is refused in one line."""
    document = json.loads((folder / "audit" / "report.json").read_text("utf-8"))
    mean = document["robust"]["mean"]
    for edited in ({"classes": []}, {"robust": {**document["robust"], "mean": {**mean, "count": mean["images"] + 1}}}):
        (folder / "edited.json").write_text(json.dumps({**document, **edited}))
        assert gate("edited.json", "--min-robust", "0.2", "--min-worst", "0.2") == 1
        assert "not a report that FAAL has written" in capsys.readouterr().err


def test_another_file_is_no_report(gate, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The result of a gate is not a report that a gate can read."""
    assert gate("audit/report.json", "--min-worst", "0.2", "--json") == 0
    (folder / "gate.json").write_text(capsys.readouterr().out)
    assert gate("gate.json", "--min-worst", "0.2") == 1
    assert "not a report that FAAL has written" in capsys.readouterr().err
