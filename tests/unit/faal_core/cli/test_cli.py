"""The command `faal` on a tiny data set and network: files, exit codes, messages, and resuming after a stop."""

import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import typer
from pydantic import BaseModel
from rich.console import Console

import faal_core
from faal_core import catalog, weights
from faal_core.cli.commands import app
from faal_core.cli.results import require_worst_class
from faal_core.reports import terminal
from faal_core.reports.progress_bar import ProgressBar
from faal_core.results.documents import AuditReport
from faal_core.results.finetune_documents import FinetuneReport
from faal_core.results.reading import read_report
from faal_core.results.trust import OVERSTATED
from faal_core.specs import AuditSpec, ClassifierSpec, FaalMethod, PgdSpec, TrainingSpec
from tests.command_line import AUDIT, FINETUNE, UNBOUNDED, run_faal
from tests.sample_reports import WARNING, sample_audit


def test_audit_writes_both_files_and_prints_the_classes(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The report can be read and has the options' values, the page exists, and the terminal shows verdict and table."""
    assert (
        run_faal(monkeypatch, folder, *AUDIT, "--epsilon", "8/255", "--set", "confidence=0.9", "--name", "my net") == 0
    )
    report = read_report((folder / "out/report.json").read_text())
    assert isinstance(report, AuditReport)
    assert report.spec == AuditSpec.model_validate(
        {"threat": {"epsilon": "8/255"}, "attacks": "quick", "confidence": 0.9}
    )
    assert (report.classifier.name, report.dataset.images) == ("my net", 30)
    assert "my net" in (folder / "out/report.html").read_text()
    assert terminal.class_table(report) in capsys.readouterr().out


def test_json_is_all_that_is_printed(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With --json, standard output has only the document; the attack's line goes to standard error."""
    assert run_faal(monkeypatch, folder, *AUDIT, "--epsilon", "0.1", "--json") == 0
    output = capsys.readouterr()
    assert read_report(output.out) == read_report((folder / "out/report.json").read_text())
    assert "PGD-10 (cross-entropy): " in output.err


def test_options_win_over_the_spec_file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Options replace values of the spec file, and the file gives all others."""
    spec = {"threat": {"epsilon": "8/255", "norm": "l2"}, "attacks": [{"type": "pgd", "steps": 3}], "seed": 7}
    (folder / "spec.json").write_text(json.dumps(spec))
    arguments = [argument for argument in AUDIT if argument not in {"--attacks", "quick"}]
    assert run_faal(monkeypatch, folder, *arguments, "--spec", "spec.json", "--epsilon", "0.5") == 0
    report = read_report((folder / "out/report.json").read_text())
    assert report.spec == AuditSpec.model_validate(spec | {"threat": {"epsilon": 0.5, "norm": "l2"}})


LONG_AUDIT = (
    *(argument for argument in AUDIT if argument not in {"--attacks", "quick"}),
    *("--epsilon", "1e-6", "--attacks", '[{"type": "pgd", "steps": 20, "restarts": 15}]', "--set", "batch_size=3"),
    *("--ledger", "audit.ledger"),
)


def test_a_stopped_audit_resumes_and_can_be_reported_in_part(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Ctrl-C exits with 130 and says how to resume; --minutes 0 reports the results so far, and the same command all results."""
    ledger = folder / "audit.ledger"
    exit_status, stderr = interrupt(folder, LONG_AUDIT, lambda: ledger.exists() and ledger.read_text().count("\n") > 15)
    assert (exit_status, "Traceback" in stderr) == (130, False)
    assert "audit.ledger keeps the results so far" in stderr
    first_lines = ledger.read_text()
    assert run_faal(monkeypatch, folder, *LONG_AUDIT, "--minutes", "0", "--require-worst", "0") == 3
    output = capsys.readouterr()
    assert "The audit was stopped before every attack had tried every image left for it" in output.out
    assert "The audit is incomplete" in output.err
    part = read_report((folder / "out/report.json").read_text())
    assert isinstance(part, AuditReport)
    assert part.attacks[0].untried > 0
    assert ledger.read_text().startswith(first_lines[: first_lines.rindex("\n") + 1])
    assert run_faal(monkeypatch, folder, *LONG_AUDIT) == 0
    assert ledger.read_text().startswith(first_lines[: first_lines.rindex("\n") + 1])
    whole = read_report((folder / "out/report.json").read_text())
    assert isinstance(whole, AuditReport)
    assert whole.complete
    assert run_faal(monkeypatch, folder, *LONG_AUDIT, "--set", "seed=1") == 1
    assert "(ledger-mismatch)" in capsys.readouterr().err


def interrupt(folder: Path, command: tuple[str, ...], is_far_enough: Callable[[], bool]) -> tuple[int, str]:
    """Run `faal` in the folder, press Ctrl-C as soon as it is far enough, and return exit status and messages."""
    process = subprocess.Popen(
        [sys.executable, "-m", "faal_core.cli", *command],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[4])},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509 - a parent may ignore Ctrl-C
    )
    deadline = time.monotonic() + 120
    while not is_far_enough() and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    return process.returncode, stderr.decode()


def test_the_gate_closes_on_the_lower_bound(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """--require-worst compares the interval's lower end: a limit of 0 passes, and the measured rate as the limit fails."""
    assert run_faal(monkeypatch, folder, *AUDIT, "--epsilon", "0.001", "--require-worst", "0") == 0
    report = read_report((folder / "out/report.json").read_text())
    assert isinstance(report, AuditReport)
    worst = max(report.robust.worst.value, 0.01)
    assert run_faal(monkeypatch, folder, *AUDIT, "--epsilon", "0.001", "--require-worst", str(worst)) == 3


@pytest.mark.parametrize("code", sorted(OVERSTATED))
def test_the_gate_does_not_open_on_numbers_that_may_be_far_too_high(
    code: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A warning that attacks were misled fails the gate at any required rate and is named; audits can raise each such code."""
    warning = WARNING.model_copy(update={"code": code})
    require_worst_class(sample_audit(), 0.0)
    with pytest.raises(typer.Exit) as exit_:
        require_worst_class(sample_audit(warnings=(warning,)), 0.0)
    assert exit_.value.exit_code == 3
    assert f"{code}: {warning.message}" in capsys.readouterr().err
    source = "".join(path.read_text() for path in (Path(faal_core.__file__).parent / "auditing").rglob("*.py"))
    assert f'code="{code}"' in source


def test_finetune_writes_the_weights_that_the_report_is_about(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The stored weights have the digest in the second audit, and the checkpoint is deleted."""
    arguments = (
        *("--set", "method.dro_radius=0.3", "--set", "training.seed=3", "--set", "audit.seed=3"),
        *("--learning-rates", "0.05,0.01", "--images", "15"),
    )
    assert run_faal(monkeypatch, folder, *FINETUNE, *UNBOUNDED, *arguments) == 0
    report = read_report((folder / "out/report.json").read_text())
    assert isinstance(report, FinetuneReport)
    assert weights.digest(weights.read_classifier(folder / "out/weights.safetensors")) == report.after.classifier.sha256
    training = report.spec.training
    assert (training.learning_rates, training.batch_size, training.attack.steps) == ((0.05, 0.01), 20, 2)
    assert (report.spec.method.dro_radius, training.seed, report.spec.audit.seed) == (0.3, 3, 3)
    assert report.before.dataset.images == 15
    assert sorted(path.name for path in (folder / "out").iterdir()) == [
        "outcomes-after.parquet",
        "outcomes-before.parquet",
        "report.html",
        "report.json",
        "trained.safetensors",
        "weights.safetensors",
    ]


def test_a_stopped_finetune_resumes(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Ctrl-C exits with 130; the same command then skips the finished epochs and gives the weights of an uninterrupted run."""
    command = [*FINETUNE, *UNBOUNDED, "--learning-rates", ",".join(["0.01"] * 12)]
    exit_status, stderr = interrupt(folder, tuple(command), (folder / "out/checkpoint/training.pt").exists)
    assert (exit_status, "Traceback" in stderr) == (130, False)
    assert run_faal(monkeypatch, folder, *command) == 0
    said_again = capsys.readouterr().err
    assert "epoch 12: " in said_again
    assert "epoch 1: " not in said_again
    assert run_faal(monkeypatch, folder, *command, "--out", "whole") == 0
    continuation, whole = (weights.read_classifier(folder / out / "weights.safetensors") for out in ("out", "whole"))
    assert weights.digest(continuation) == weights.digest(whole)


def test_a_finetune_that_keeps_the_original_exits_with_4(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """If no candidate's worst class is better, the command writes a report that says so, and deletes an earlier run's weights."""
    (folder / "out").mkdir()
    (folder / "out/weights.safetensors").write_bytes(b"of an earlier run")
    bounds = ("max_robust_drop=0.02", "max_clean_drop=0.03", "max_class_drop=0.5", "augment=flip")
    settings = (argument for bound in bounds for argument in ("--set", f"training.{bound}"))
    assert run_faal(monkeypatch, folder, *FINETUNE, *settings) == 4
    assert "The original weights are kept: " in capsys.readouterr().out
    assert not (folder / "out/weights.safetensors").exists()
    report = read_report((folder / "out/report.json").read_text())
    assert isinstance(report, FinetuneReport)
    assert report.outcome == "kept-original"
    training = report.spec.training
    assert (training.max_robust_drop, training.max_clean_drop, training.max_class_drop) == (0.02, 0.03, 0.5)
    assert training.augment == "flip"


def test_any_candidate_can_be_kept_afterwards(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`faal keep` writes the last candidate, which has the trained weights, and refuses a number that is not in the report."""
    assert run_faal(monkeypatch, folder, *FINETUNE) == 4
    command = ("keep", "out", "4", "--weights", "net.safetensors", "-o", "kept.safetensors")
    assert run_faal(monkeypatch, folder, *command) == 0
    copy, original = (
        weights.read_classifier(folder / name) for name in ("kept.safetensors", "out/trained.safetensors")
    )
    assert weights.digest(copy) == weights.digest(original)
    assert run_faal(monkeypatch, folder, "keep", "out", "5", *command[3:]) == 1


def test_a_report_that_cannot_be_written_costs_no_training(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The checkpoint is kept until the report is written and then deleted, but other files in its folder stay."""
    (folder / "out/report.json").mkdir(parents=True)
    (folder / "out/checkpoint").mkdir()
    (folder / "out/checkpoint/other.pt").touch()
    assert run_faal(monkeypatch, folder, *FINETUNE, *UNBOUNDED) == 1
    assert "epoch 2: " in capsys.readouterr().err
    (folder / "out/report.json").rmdir()
    assert run_faal(monkeypatch, folder, *FINETUNE, *UNBOUNDED) == 0
    assert "epoch 2: " not in capsys.readouterr().err
    assert [path.name for path in (folder / "out/checkpoint").iterdir()] == ["other.pt"]


def test_render_draws_the_page_of_a_document(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`faal render` makes the same page from a stored document as from the report itself."""
    from faal_core.reports import html

    report = sample_audit()
    (folder / "report.json").write_text(report.model_dump_json())
    assert run_faal(monkeypatch, folder, "render", "report.json", "-o", "page.html") == 0
    assert (folder / "page.html").read_text() == html.render(report)


@pytest.mark.parametrize(
    ("document", "message"),
    [("{", "document: Invalid JSON"), ('{"kind": "audit"}', "audit.product: is missing"), ("{}", "document: ")],
)
def test_render_refuses_what_is_no_report(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], document: str, message: str
) -> None:
    """A file that is no report exits with 2 and names the invalid fields."""
    (folder / "report.json").write_text(document)
    assert run_faal(monkeypatch, folder, "render", "report.json") == 2
    assert message in capsys.readouterr().err


def test_the_catalog_lists_every_name(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As JSON and in a search for any text, all architectures, data sets and presets are listed."""
    names = {
        "architectures": set(catalog.architectures()),
        "datasets": set(catalog.datasets()),
        "presets": set(catalog.PRESETS),
    }
    assert run_faal(monkeypatch, folder, "catalog", "--json") == 0
    assert {part: set(entries) for part, entries in json.loads(capsys.readouterr().out).items()} == names
    assert run_faal(monkeypatch, folder, "catalog", "") == 0
    output = {line.split()[0] for line in capsys.readouterr().out.splitlines() if line.startswith("  ")}
    assert output == set.union(*names.values())


def test_the_catalog_lists_a_librarys_networks_on_request(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without a text to search for, each library is one line; a search finds names in either case."""
    assert run_faal(monkeypatch, folder, "catalog") == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) < 80
    assert any("timm/…" in line and "1,3" in line for line in lines)
    assert run_faal(monkeypatch, folder, "catalog", "WRN_34", "--json") == 0
    assert "dm_wrn_34_10" in json.loads(capsys.readouterr().out)["architectures"]
    assert run_faal(monkeypatch, folder, "catalog", "nothing of the kind") == 2
    assert "no name contains 'nothing of the kind'" in " ".join(capsys.readouterr().err.split())


def test_the_bar_tells_how_long_the_audit_takes() -> None:
    """The progress bar shows the longest time that the whole audit may take, once it is known."""
    bar, terminal = ProgressBar(), Console(width=120, record=True, file=io.StringIO())
    bar.stage("clean", 10)
    bar.set_eta(12 * 60 - 5)
    terminal.print(bar._bars)
    assert "audit: at most 12 min left" in terminal.export_text()


def test_help_names_the_presets(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The help of `faal audit` names each preset."""
    assert run_faal(monkeypatch, folder, "audit", "--help") == 0
    assert f"({', '.join(catalog.PRESETS)})" in " ".join(capsys.readouterr().out.replace("│", " ").split())


def test_help_is_light() -> None:
    """Importing the command imports no slow module: no torch, no specs, no charts, no progress bars."""
    program = "import sys, faal_core.cli; print({'torch', 'pydantic', 'altair', 'jinja2', 'rich'} & set(sys.modules))"
    output = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert output.strip() == "set()"


def test_the_defaults_in_the_help_are_those_of_the_specs() -> None:
    """The default of each option in the help is the default of its spec."""
    defaults = {
        (command, parameter.name): parameter.show_default
        for command, group in typer.main.get_command(app).commands.items()  # type: ignore[attr-defined]
        for parameter in group.params
    }

    def default(model: type[BaseModel], field: str) -> str:
        value = model.model_fields[field].default
        return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)

    assert defaults["finetune", "learning_rates"] == default(TrainingSpec, "learning_rates")
    assert defaults["audit", "mean"] == default(ClassifierSpec, "mean")
    assert defaults["audit", "std"] == default(ClassifierSpec, "std")
    assert defaults["finetune", "method"] == FaalMethod().type
    preset = tuple(
        PgdSpec.model_validate(fields) for fields in catalog.preset(str(defaults["audit", "attacks"])).attacks
    )
    audit_spec = AuditSpec.model_validate({"threat": {"epsilon": 0.1}})
    assert (preset, str(defaults["audit", "norm"]), defaults["audit", "images"]) == (
        audit_spec.attacks,
        audit_spec.threat.norm,
        "all",
    )
