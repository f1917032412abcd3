"""The command `faal export`, and the examples of the guide's page on exports."""

import os
import re
import shlex
from pathlib import Path

import pytest
from mlflow import MlflowClient

from faal_core.reports.files import save
from faal_core.threat_model import ThreatModel
from tests.command_line import run_faal
from tests.sample_reports import sample_outcomes
from tests.wandb_offline import wandb_offline

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # MLflow calls SQLAlchemy so
PAGE = Path(__file__).parents[4] / "docs/how-to/export.md"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder with the reports of two radii, and without any account of a tool."""
    for name in [name for name in os.environ if name.startswith(("MLFLOW_", "WANDB_"))]:
        monkeypatch.delenv(name)
    report, outcomes = sample_outcomes()
    spec = report.spec.model_copy(update={"threat": ThreatModel(epsilon=0.05)})
    save(report, tmp_path / "audit", outcomes)
    save(report.model_copy(update={"spec": spec}), tmp_path / "small", outcomes)
    return tmp_path


def test_the_examples_of_the_guide_run(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """Each command and program of the page runs as written, in order, and has the result that the page states."""
    blocks = re.findall(r"^```(bash|python)\n(.*?)^```$", PAGE.read_text("utf-8"), re.DOTALL | re.MULTILINE)
    assert [language for language, _ in blocks].count("bash") == 5
    with wandb_offline(folder):
        monkeypatch.delenv("WANDB_MODE")  # the page sets it
        for language, text in blocks:
            if language == "python":
                exec(compile(text, str(PAGE), "exec"), {})
                continue
            words = shlex.split(text)
            while "=" in words[0]:
                monkeypatch.setenv(*words.pop(0).split("=", 1))
            assert words[0] == "faal"
            assert run_faal(monkeypatch, folder, *words[1:]) == 0, capsys.readouterr().err
    client = MlflowClient("sqlite:///mlflow.db")
    runs = client.search_runs([client.get_experiment_by_name("robustness").experiment_id])
    assert len(runs) == 2  # from the command and from Python
    files = {file.path for file in client.list_artifacts(runs[0].info.run_id)}
    assert files == {"classes.csv", "outcomes.parquet", "report.html", "report.json"}
    assert list(folder.glob("wandb/offline-run-*"))
    assert "zalando-datasets/fashion_mnist" in (folder / "README.md").read_text("utf-8")
    assert (folder / "radii.csv").read_text().startswith("epsilon,class,")


def test_no_target_is_assumed(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """Without a server or project, the commands send nothing and say which option is missing."""
    for target, option in {"mlflow": "--tracking-uri", "wandb": "--project"}.items():
        assert run_faal(monkeypatch, folder, "export", target, "audit/report.json") == 2
        assert option in capsys.readouterr().err
    assert not (folder / "mlruns").exists()


def test_errors_are_one_line(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """A file that is no report, and a table of an unknown kind, are reported in one line."""
    (folder / "other.json").write_text("[]")
    for arguments, reason in {
        ("huggingface", "other.json"): "is not a report that FAAL has written",
        ("classes", "audit/report.json", "-o", "classes.xlsx"): "must end in .parquet or .csv",
        ("classes", "audit/report.json", "audit/report.json"): "same radius",
    }.items():
        assert run_faal(monkeypatch, folder, "export", *arguments) == 1
        error = capsys.readouterr().err
        assert (error.count("\n"), reason in error) == (1, True)
