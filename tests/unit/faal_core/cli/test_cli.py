"""The command `faal`, on a tiny data set and network: files, exit codes, messages, and going on after a stop."""

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
from faal_core.cli.progress_bar import ProgressBar
from faal_core.cli.results import OVERSTATED, require_worst_class
from faal_core.reports import terminal
from faal_core.results.documents import AuditReport
from faal_core.results.finetune_documents import FinetuneReport
from faal_core.results.reading import read_report
from faal_core.specs import AuditSpec, ClassifierSpec, PgdSpec, TrainingSpec
from tests.command_line import AUDIT, FINETUNE, UNBOUNDED, run_faal
from tests.sample_reports import WARNING, sample_audit


def test_audit_writes_both_files_and_prints_the_classes(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The report is read back with what was asked for, the page is there, and the terminal shows verdict and table."""
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
    """With --json standard output is the document and nothing else; the attack's line goes to standard error."""
    assert run_faal(monkeypatch, folder, *AUDIT, "--epsilon", "0.1", "--json") == 0
    printed = capsys.readouterr()
    assert read_report(printed.out) == read_report((folder / "out/report.json").read_text())
    assert "PGD-10 (cross-entropy): " in printed.err


def test_options_win_over_the_spec_file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A spec file gives everything that no option names."""
    asked = {"threat": {"epsilon": "8/255", "norm": "l2"}, "attacks": [{"type": "pgd", "steps": 3}], "seed": 7}
    (folder / "spec.json").write_text(json.dumps(asked))
    arguments = [argument for argument in AUDIT if argument not in {"--attacks", "quick"}]
    assert run_faal(monkeypatch, folder, *arguments, "--spec", "spec.json", "--epsilon", "0.5") == 0
    report = read_report((folder / "out/report.json").read_text())
    assert report.spec == AuditSpec.model_validate(asked | {"threat": {"epsilon": 0.5, "norm": "l2"}})


LONG_AUDIT = (
    *(argument for argument in AUDIT if argument not in {"--attacks", "quick"}),
    *("--epsilon", "1e-6", "--attacks", '[{"type": "pgd", "steps": 20, "restarts": 15}]', "--set", "batch_size=3"),
    *("--ledger", "audit.ledger"),
)


def test_a_stopped_audit_goes_on_and_can_be_reported_in_part(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Ctrl-C exits with 130 and says how to go on; --minutes 0 reports what is known, and the same command the whole."""
    ledger = folder / "audit.ledger"
    exit_status, said = interrupted(folder, LONG_AUDIT, lambda: ledger.exists() and ledger.read_text().count("\n") > 15)
    assert (exit_status, "Traceback" in said) == (130, False)
    assert "audit.ledger keeps the results so far" in said
    known = ledger.read_text()
    assert run_faal(monkeypatch, folder, *LONG_AUDIT, "--minutes", "0", "--require-worst", "0") == 3
    printed = capsys.readouterr()
    assert "The audit was stopped before every attack had tried every image left for it" in printed.out
    assert "The audit is incomplete" in printed.err
    part = read_report((folder / "out/report.json").read_text())
    assert isinstance(part, AuditReport)
    assert part.attacks[0].untried > 0
    assert ledger.read_text().startswith(known[: known.rindex("\n") + 1])
    assert run_faal(monkeypatch, folder, *LONG_AUDIT) == 0
    assert ledger.read_text().startswith(known[: known.rindex("\n") + 1])
    whole = read_report((folder / "out/report.json").read_text())
    assert isinstance(whole, AuditReport)
    assert whole.complete
    assert run_faal(monkeypatch, folder, *LONG_AUDIT, "--set", "seed=1") == 1
    assert "(ledger-mismatch)" in capsys.readouterr().err


def interrupted(folder: Path, command: tuple[str, ...], far_enough: Callable[[], bool]) -> tuple[int, str]:
    """Exit status of that `faal` in the folder after a Ctrl-C as soon as it is far enough, and what it said."""
    stopped = subprocess.Popen(
        [sys.executable, "-m", "faal_core.cli", *command],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[4])},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509 - a parent may ignore Ctrl-C
    )
    deadline = time.monotonic() + 120
    while not far_enough() and time.monotonic() < deadline:
        time.sleep(0.01)
    stopped.send_signal(signal.SIGINT)
    _, said = stopped.communicate(timeout=60)
    return stopped.returncode, said.decode()


def test_the_gate_closes_on_the_lower_bound(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """--require-worst asks the interval's lower end: 0 passes, and the rate itself does not."""
    assert run_faal(monkeypatch, folder, *AUDIT, "--epsilon", "0.001", "--require-worst", "0") == 0
    report = read_report((folder / "out/report.json").read_text())
    assert isinstance(report, AuditReport)
    worst = max(report.robust.worst.value, 0.01)
    assert run_faal(monkeypatch, folder, *AUDIT, "--epsilon", "0.001", "--require-worst", str(worst)) == 3


@pytest.mark.parametrize("code", sorted(OVERSTATED))
def test_the_gate_does_not_open_on_numbers_that_may_be_far_too_high(
    code: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whatever rate is required, a warning that attacks were misled closes the gate and is named; an audit raises each code."""
    warning = WARNING.model_copy(update={"code": code})
    require_worst_class(sample_audit(), 0.0)
    with pytest.raises(typer.Exit) as closed:
        require_worst_class(sample_audit(warnings=(warning,)), 0.0)
    assert closed.value.exit_code == 3
    assert f"{code}: {warning.message}" in capsys.readouterr().err
    raised = "".join(path.read_text() for path in (Path(faal_core.__file__).parent / "auditing").rglob("*.py"))
    assert f'code="{code}"' in raised


def test_finetune_writes_the_weights_that_the_report_is_about(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The stored weights have the digest of the audit afterwards, and nothing is left of the checkpoint."""
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
        "report.html",
        "report.json",
        "trained.safetensors",
        "weights.safetensors",
    ]


def test_a_stopped_finetune_goes_on(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Ctrl-C exits with 130; the same command again skips the finished epochs and ends as an undisturbed run does."""
    command = [*FINETUNE, *UNBOUNDED, "--learning-rates", ",".join(["0.01"] * 12)]
    exit_status, said = interrupted(folder, tuple(command), (folder / "out/checkpoint/training.pt").exists)
    assert (exit_status, "Traceback" in said) == (130, False)
    assert run_faal(monkeypatch, folder, *command) == 0
    said_again = capsys.readouterr().err
    assert "epoch 12: " in said_again
    assert "epoch 1: " not in said_again
    assert run_faal(monkeypatch, folder, *command, "--out", "whole") == 0
    resumed, whole = (weights.read_classifier(folder / out / "weights.safetensors") for out in ("out", "whole"))
    assert weights.digest(resumed) == weights.digest(whole)


def test_a_finetune_that_keeps_the_original_exits_with_4(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where no worst class is better there are no weights, also none of an earlier run, but a report that says so first."""
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
    """`faal keep` writes the last candidate, which is the trained end, and refuses a number that the report does not have."""
    assert run_faal(monkeypatch, folder, *FINETUNE) == 4
    command = ("keep", "out", "4", "--weights", "net.safetensors", "-o", "kept.safetensors")
    assert run_faal(monkeypatch, folder, *command) == 0
    kept, trained = (weights.read_classifier(folder / name) for name in ("kept.safetensors", "out/trained.safetensors"))
    assert weights.digest(kept) == weights.digest(trained)
    assert run_faal(monkeypatch, folder, "keep", "out", "5", *command[3:]) == 1


def test_a_report_that_cannot_be_written_costs_no_training(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The checkpoint stays until the report is there; then it goes, and a file of another's in its folder stays."""
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
    """A stored document becomes the page that is drawn from the report itself."""
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
    """A file that is no report exits with 2 and the paths of what is wrong."""
    (folder / "report.json").write_text(document)
    assert run_faal(monkeypatch, folder, "render", "report.json") == 2
    assert message in capsys.readouterr().err


def test_the_catalog_lists_every_name(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As text and as JSON, all architectures, data sets and presets are there."""
    names = {
        "architectures": set(catalog.architectures()),
        "datasets": set(catalog.datasets()),
        "presets": set(catalog.PRESETS),
    }
    assert run_faal(monkeypatch, folder, "catalog", "--json") == 0
    assert {what: set(entries) for what, entries in json.loads(capsys.readouterr().out).items()} == names
    assert run_faal(monkeypatch, folder, "catalog") == 0
    printed = {line.split()[0] for line in capsys.readouterr().out.splitlines() if line.startswith("  ")}
    assert printed == set.union(*names.values())


def test_the_bar_tells_how_long_the_audit_takes() -> None:
    """Beside the bar of the stage stands how long all of the audit takes at most, once that is known."""
    bar, terminal = ProgressBar(), Console(width=120, record=True, file=io.StringIO())
    bar.stage("clean", 10)
    bar.set_eta(12 * 60 - 5)
    terminal.print(bar._bars)
    assert "audit: at most 12 min left" in terminal.export_text()


def test_help_names_the_presets(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whoever asks for help on `faal audit` reads the name of each preset."""
    assert run_faal(monkeypatch, folder, "audit", "--help") == 0
    assert f"({', '.join(catalog.PRESETS)})" in " ".join(capsys.readouterr().out.replace("│", " ").split())


def test_help_is_light() -> None:
    """Importing the command brings nothing slow: no torch, no specs, no charts, no progress bars."""
    program = "import sys, faal_core.cli; print({'torch', 'pydantic', 'altair', 'jinja2', 'rich'} & set(sys.modules))"
    printed = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert printed.strip() == "set()"


def test_the_defaults_that_help_tells_are_those_of_the_specs() -> None:
    """An option left out means what its help says."""
    told = {
        (command, parameter.name): parameter.show_default
        for command, group in typer.main.get_command(app).commands.items()  # type: ignore[attr-defined]
        for parameter in group.params
    }

    def default(model: type[BaseModel], field: str) -> str:
        value = model.model_fields[field].default
        return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)

    assert told["finetune", "learning_rates"] == default(TrainingSpec, "learning_rates")
    assert told["audit", "mean"] == default(ClassifierSpec, "mean")
    assert told["audit", "std"] == default(ClassifierSpec, "std")
    assert told["finetune", "steps"] == str(TrainingSpec().attack.steps)
    preset = tuple(PgdSpec.model_validate(fields) for fields in catalog.preset(str(told["audit", "attacks"])).attacks)
    asked = AuditSpec.model_validate({"threat": {"epsilon": 0.1}})
    assert (preset, str(told["audit", "norm"]), told["audit", "images"]) == (asked.attacks, asked.threat.norm, "all")
