"""`--set` and `--spec`: their precedence, the fields that they set, and the errors for wrong paths and values."""

import json
from pathlib import Path

import pytest
from pydantic import BaseModel

from faal_core.cli.spec_fields import command_spec, similar_paths, spec_fields
from faal_core.results.documents import AuditReport
from faal_core.results.reading import read_report
from faal_core.specs import METHODS, AuditSpec, FinetuneSpec
from tests.command_line import AUDIT, FINETUNE, run_faal


def read_spec(folder: Path) -> AuditSpec:
    """Return the spec in the report of an audit."""
    report = read_report((folder / "out/report.json").read_text())
    assert isinstance(report, AuditReport)
    return report.spec


@pytest.mark.parametrize("name", ["spec.json", "spec.toml"])
def test_options_and_settings_win_over_the_file(folder: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """A file gives the fields that neither an option nor --set names; the last of two values of --set counts."""
    text = {
        "spec.json": json.dumps({"threat": {"epsilon": "8/255", "norm": "l2"}, "seed": 7, "batch_size": 9}),
        "spec.toml": 'seed = 7\nbatch_size = 9\n[threat]\nepsilon = "8/255"\nnorm = "l2"\n',
    }
    (folder / name).write_text(text[name])
    settings = ("--set", "batch_size=10", "--set", "batch_size=11")
    assert run_faal(monkeypatch, folder, *AUDIT, "--spec", name, "--epsilon", "0.5", *settings) == 0
    whole = {"threat": {"epsilon": 0.5, "norm": "l2"}, "attacks": "quick", "seed": 7, "batch_size": 11}
    assert read_spec(folder) == AuditSpec.model_validate(whole)


def finetune_spec(folder: Path, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> FinetuneSpec:
    """Return the spec that a fine-tuning would run with."""
    from faal_core.cli import finetune

    specs: list[FinetuneSpec] = []
    with monkeypatch.context() as patch:
        build = finetune.build_spec  # type: ignore[attr-defined]
        patch.setattr(finetune, "build_spec", lambda *inputs: specs.append(build(*inputs)) or specs[0])
        patch.setattr(finetune, "_finetune", lambda *_: None)
        assert run_faal(monkeypatch, folder, *FINETUNE, *arguments) == 0
    return specs[0]


def test_values_are_json_or_text(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """--set accepts numbers, null, text and objects; an object sets its fields and keeps the others."""
    settings = (
        "training.max_robust_drop=null",
        "training.averaging={}",
        "training.averaging.decay=0.5",
        'method={"strength": 2}',
        "method.loss=at",
        "training.clean_forward=false",
        "training.schedule=linear",
    )
    arguments = (argument for one in settings for argument in ("--set", one))
    spec = finetune_spec(folder, monkeypatch, "--method", "dafa", *arguments)
    training = spec.training
    assert (training.max_robust_drop, training.clean_forward, training.schedule) == (None, False, "linear")
    assert training.averaging is not None
    assert (training.averaging.decay, training.averaging.every, training.batch_size) == (0.5, "step", 20)
    method = spec.method
    assert (method.type, spec.loss, getattr(method, "strength", None)) == ("dafa", "at", 2)
    (folder / "spec.json").write_text(json.dumps({"training": {"averaging": {"decay": 0.7}, "momentum": 0.1}}))
    with_averaging = finetune_spec(
        folder, monkeypatch, "--spec", "spec.json", "--set", "training.averaging={}"
    ).training
    assert (with_averaging.averaging and with_averaging.averaging.decay, with_averaging.momentum) == (0.7, 0.1)
    without_averaging = finetune_spec(
        folder, monkeypatch, "--spec", "spec.json", "--set", "training.averaging=null"
    ).training
    assert without_averaging.averaging is None


def test_a_preset_is_under_the_settings(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A preset gives the values that no setting gives."""
    spec = finetune_spec(folder, monkeypatch, "--set", "preset=paper", "--set", "method.beta=3")
    assert (getattr(spec.method, "dro_radius", None), spec.method.beta) == (0.5, 3)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        (
            "training.batchsize=64",
            "--set training.batchsize: there is no such field; did you mean training.batch_size?",
        ),
        (
            "batch_size=64",
            "--set batch_size: there is no such field; did you mean training.batch_size, audit.batch_size?",
        ),
        ("colour=red", "--set colour: there is no such field. `faal fields` lists all."),
        ("=1", "--set : there is no such field"),
        (f"{'a.' * 5000}=1", "--set a.a."),
        (
            "training.batch_size",
            "--set training.batch_size: the value is missing. Write --set training.batch_size=VALUE.",
        ),
        ("training.batch_size=many", "--set training.batch_size: 'many' should be a valid integer"),
        ("training.batch_size=", "--set training.batch_size: '' should be a valid integer"),
        ("training.batch_size=1", "--set training.batch_size: 1 should be greater than or equal to 2"),
        ('training={"batch_size": 1}', "--set training.batch_size: 1 should be"),
        ('training={"batchsize": 1}', "--set training.batchsize: there is no such field; did you mean"),
        ("training=5", "--set training: 5 is no value for a group of fields. Name a field, such as training.learning"),
        ("training=null", "--set training: null is no value"),
        ("training.momentum=NaN", "--set training.momentum: nan should be"),
        (f"training.momentum={'[' * 50_000}", "--set training.momentum: "),
        ("threat.epsilon=0.1", "--set threat.epsilon: this field has an option. Pass --epsilon instead."),
        ('threat={"norm": "l2"}', "--set threat.norm: this field has an option. Pass --norm instead."),
        ("method.type=dafa", "Pass --method instead."),
        (
            "training.averaging.min_robust_worst=0.2",
            "--set training.averaging.min_robust_worst: min_robust_worst needs every: epoch, because the worst class",
        ),
    ],
)
def test_a_wrong_setting_is_named_as_it_was_typed(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], setting: str, message: str
) -> None:
    """The message begins with --set and the path, and says what to type instead."""
    assert run_faal(monkeypatch, folder, *FINETUNE, "--set", setting) == 2
    output = capsys.readouterr().err
    assert message in output
    assert max(map(len, output.splitlines())) <= 1000
    assert not (folder / "out").exists()


def test_every_wrong_setting_is_listed(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One run reports all settings with a wrong path, and then the settings that contradict each other."""
    assert run_faal(monkeypatch, folder, *FINETUNE, "--set", "a=1", "--set", "b=1") == 2
    assert len(capsys.readouterr().err.splitlines()) == 2
    together = ("--set", "training.averaging.min_robust_worst=0.2", "--set", "training.averaging.every=epoch")
    together += ("--set", "training.validation_fraction=0")
    assert run_faal(monkeypatch, folder, *FINETUNE, *together) == 2
    names, _, message = capsys.readouterr().err.partition(": ")
    assert {"--set training.averaging.min_robust_worst", "--set training.validation_fraction"} <= set(names.split(", "))
    assert message.startswith("min_robust_worst is measured on validation images")


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("spec.toml", "seed = ", "spec.toml is not TOML: "),
        ("spec.toml", "seeds = 1", "spec.toml: seeds: there is no such field; did you mean seed?"),
        ("spec.json", "[1]", "spec.json holds no JSON object"),
    ],
)
def test_a_wrong_file_is_named(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    name: str,
    text: str,
    message: str,
) -> None:
    """The error for a wrong file names the file."""
    (folder / name).write_text(text)
    assert run_faal(monkeypatch, folder, *AUDIT, "--epsilon", "0.1", "--spec", name) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("command", "option", "paths"),
    [(AUDIT, "--batch-size", ["batch_size"]), (FINETUNE, "--seed", ["training.seed", "audit.seed"])],
)
def test_a_field_that_is_written_as_an_option_is_explained(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    command: tuple[str, ...],
    option: str,
    paths: list[str],
) -> None:
    """An unknown option that has the name of a field names --set with the field's path."""
    assert run_faal(monkeypatch, folder, *command, option, "1") == 2
    message = capsys.readouterr().err
    assert f"No such option: {option}. Pass " in message
    assert all(f"--set {path}=VALUE" in message for path in paths)


@pytest.mark.parametrize("command", ["audit", "finetune"])
def test_the_listed_fields_are_those_of_the_spec(command: str) -> None:
    """Every field of the models, and of every method, is listed with its path and its default."""
    model = command_spec(command)
    fields = spec_fields(model)

    def walk(value: BaseModel, prefix: str = "") -> None:
        for name, inner in value:
            field = fields[f"{prefix}{name}"]
            assert field.is_group or field.default in ("", "the method's") or _same(field.default, inner)
            if isinstance(inner, BaseModel):
                walk(inner, f"{prefix}{name}.")

    walk(model.model_validate({"threat": {"epsilon": 0.1}}))
    if command == "finetune":
        assert fields["method.type"].values == tuple(method().type for method in METHODS)
        assert {"method.exploration", "training.averaging.decay"} <= set(fields)


def _same(text: str, value: object) -> bool:
    try:
        read = json.loads(text)
    except ValueError:
        read = text
    return (tuple(read) if isinstance(read, list) else read) == value


def test_similar_paths_end_with_the_same_name_first() -> None:
    """A bare name suggests every field with that name; a misspelt path suggests the most similar one."""
    fields = spec_fields(FinetuneSpec)
    assert similar_paths("decay", fields) == ["training.averaging.decay"]
    assert similar_paths("trainning.momentum", fields) == ["training.momentum"]
    assert similar_paths("training.momentun", fields)[0] == "training.momentum"
