"""The messages of `faal` for wrong options and for failures, in the terms of its options."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import NoReturn
from zipfile import ZipFile

import pytest
import typer
from pydantic import BaseModel

from tests.command_line import AUDIT, FINETUNE, fill, run_faal

NETWORK = ("--epsilon", "0.1", "--architecture", "small_resnet", "--num-classes", "3")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--epsilon", "8/0"], "--epsilon: '8/0' is not a radius"),
        (
            ["--epsilon", "8"],
            "--epsilon: an L∞ radius of 8 exceeds the pixel range [0, 1]; for levels of 0 to 255 write 8/255",
        ),
        (["--epsilon", "300"], "--epsilon: an L∞ radius of 300 exceeds the pixel range [0, 1]\n"),
        ([], "--epsilon is missing. The largest perturbation of an image, for pixels in [0, 1]: 8/255 or 0.1."),
        (["--epsilon", "0.1", "--norm", "l1"], "--norm: 'l1' is not a supported norm: write linf or l2"),
        (["--epsilon", "0.1", "--images", "0"], "--images: 0 should be greater than or equal to 1"),
        (["--epsilon", "0.1", "--set", "batch_size=0"], "--set batch_size: 0 should be greater than or equal to 1"),
        (["--epsilon", "0.1", "--attacks", '[{"type": "pgd", "steps": 0}]'], "--attacks: [0].steps: 0 should be"),
        (["--epsilon", "0.1", "--attacks", '[{"steps": 3}]'], "--attacks: [0]: the field 'type' is missing"),
        (
            ["--epsilon", "0.1", "--attacks", '[{"type": "pdg"}]'],
            "'pdg' is none of pgd, apgd, fab, square, transfer; did you mean pgd?",
        ),
        (
            ["--epsilon", "0.1", "--attacks", '[{"type": "pgd", "stepz": 3}]'],
            "--attacks: [0].stepz: there is no such field",
        ),
        (
            ["--epsilon", "0.1", "--attacks", '[{"type": "apgd", "targets": 3}]'],
            "--attacks: [0]: targets need the loss dlr, not cross-entropy",
        ),
        (["--epsilon", "0.1", "--attacks", "[{"], "Invalid value for --attacks: not JSON"),
        (
            ["--epsilon", "0.1", "--attacks", "pgd-2"],
            "--attacks: There is no attack preset named 'pgd-2'; did you mean pgd-20",
        ),
        (["--epsilon", "0.1", "--mean", "0.5"], "go with --architecture"),
        (
            ["--epsilon", "0.1", "--architecture", "small_resnet"],
            "--num-classes is missing. With --architecture or --network: how many",
        ),
        ([*NETWORK, "--mean", "0.5,0.5"], "--std: mean has 2 channels and std has 1"),
        ([*NETWORK, "--mean", "half"], "--mean: [0]: 'half' should be a valid number\n"),
        ([*NETWORK, "--argument", "width"], "written name=value"),
        (
            [*NETWORK, "--argument", "wide=8"],
            "--argument: small_resnet takes no argument 'wide'; it takes width, blocks",
        ),
        ([*NETWORK, "--argument", "width=0"], "--argument: width of small_resnet must be between 8 and 64, not 0"),
        (
            ["--epsilon", "0.1", "--architecture", "ResNet-18", "--num-classes", "3"],
            "did you mean torchvision/resnet18, ",
        ),
        (["--epsilon", "0.1", "--device", "gpu7"], "'gpu7' is no device"),
        (["--epsilon", "0.1", "--device", "cuda:99"], "'cuda:99' is no device here"),
        (["--epsilon", "0.1", "--spec", "net.safetensors"], "Invalid value for --spec: net.safetensors is not JSON"),
        (["--epsilon", "0.1", "--weights", "absent.pt"], "'absent.pt' does not exist"),
    ],
)
def test_a_wrong_option_exits_with_2_and_is_named(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    """The exit code is 2, the message on standard error names the option, and no file is written."""
    assert run_faal(monkeypatch, folder, *AUDIT, *arguments) == 2
    output = capsys.readouterr()
    assert message in output.err
    assert output.out == ""
    assert not (folder / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--method", "fall"],
            "--method: 'fall' is none of faal, head, uniform, frl, cfa, wat, dafa, cfol, fsr, decosam, hwnwb; did you mean faal?",
        ),
        (
            ["--method", "uniform", "--set", "method.dro_radius=0.3"],
            "--set method.dro_radius does not go with uniform; leave it out",
        ),
        (["--set", "method.loss=kl"], "--set method.loss: 'kl' is none of at, trades, mart"),
        (["--method", "head", "--set", "method.loss=at"], "--set method.loss does not go with head; leave it out"),
        (["--method", "cfa", "--set", "method.loss=mart"], "--set method.loss: 'mart' is none of at, trades"),
        (["--set", "preset=papr"], "--set preset: 'papr' is none of paper; did you mean paper?"),
        (["--learning-rates", "0.1,fast"], "--learning-rates: [1]: 'fast' should be a valid number\n"),
        (["--learning-rates", "100"], "--learning-rates: [0]: '100' should be less than or equal to 10\n"),
        (["--set", "training.max_clean_drop=5"], "--set training.max_clean_drop: 5 should be less than or equal to 1"),
        (
            ["--set", "training.max_robust_drop=-1"],
            "--set training.max_robust_drop: -1 should be greater than or equal to 0",
        ),
        (["--set", "training.max_class_drop=2"], "--set training.max_class_drop: 2 should be less than or equal to 1"),
        (
            ["--set", "training.augment=mirror"],
            "--set training.augment: 'mirror' is none of none, crop, flip, crop-flip",
        ),
        (["--set", "training.attack.steps=0"], "--set training.attack.steps: 0 should be greater than or equal to 1"),
        (["--set", "training.seed=-1"], "--set training.seed: -1 should be greater than or equal to 0"),
        (["--set", "audit.confidence=95"], "--set audit.confidence: 95 should be less than 1"),
    ],
)
def test_every_option_of_a_finetuning_is_named_by_its_error(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    """The error for an option begins with the option, for every part of the spec."""
    assert run_faal(monkeypatch, folder, *FINETUNE, *arguments) == 2
    assert message in capsys.readouterr().err
    assert not (folder / "out").exists()


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"threat": {"epsilon": 0.1, "norm": "l7"}}, "spec.json: threat.norm: 'l7' is not a supported norm"),
        ({"threat": {"epsilon": 0.1}, "seeds": 1}, "spec.json: seeds: there is no such field"),
        ({"attacks": "quick"}, "--epsilon is missing; spec.json has no threat.epsilon either. The largest"),
        ({"threat": {"epsilon": 8}}, "spec.json: threat.epsilon: an L∞ radius of 8 exceeds"),
    ],
)
def test_an_error_in_the_spec_file_is_named_by_its_path(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    spec: dict[str, object],
    message: str,
) -> None:
    """An error in the file names the file and the path, and an option only if the option would help."""
    (folder / "spec.json").write_text(json.dumps(spec))
    assert run_faal(monkeypatch, folder, *AUDIT, "--spec", "spec.json") == 2
    assert message in capsys.readouterr().err


def test_every_option_that_goes_into_a_spec_is_called_as_its_field(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every option that a command passes to a spec has a path in that spec, so that errors can name the option."""
    from faal_core.cli import audit, finetune, specs
    from faal_core.cli.spec_fields import spec_fields

    unknown: list[str] = []

    def build_spec(
        context: typer.Context,
        spec: type[BaseModel],
        file: Path | None,
        options: Mapping[str, object],
        settings: object,
    ) -> NoReturn:
        paths = map(specs.path_of, specs._sources(context, options))  # type: ignore[attr-defined]
        unknown.extend(path for path in paths if path not in spec_fields(spec))
        raise typer.Exit(4)

    for command, arguments in ((audit, AUDIT), (finetune, FINETUNE)):
        monkeypatch.setattr(command, "build_spec", build_spec)
        assert run_faal(monkeypatch, folder, *arguments) == 4
    assert unknown == []


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["--dataset", "cifar11"], "unknown-name"),
        (["--dataset", "absent.npz"], "dataset-missing"),
        (["--weights", "rows.npz"], "weights-unreadable"),
        (["--images", "2"], "dataset-invalid"),
    ],
)
def test_a_failure_exits_with_1_and_a_code(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str], code: str
) -> None:
    """An error of the library is one line with its code, without a traceback."""
    assert run_faal(monkeypatch, folder, *AUDIT, "--epsilon", "0.1", *arguments) == 1
    line = capsys.readouterr().err.strip()
    assert line.startswith("faal: ")
    assert line.endswith(f"({code})")
    assert "\n" not in line


def test_a_named_data_set_without_a_folder_names_the_options(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The error for a data set that is not bundled names --data-root, --download and the files that are needed."""
    assert run_faal(monkeypatch, folder, *AUDIT, "--epsilon", "0.1", "--dataset", "cifar10") == 1
    message = capsys.readouterr().err
    assert all(
        word in message for word in ("'cifar10'", "--data-root DIR", "--download", "cifar-10-batches-py/test_batch")
    )


def test_the_catalog_lists_the_missing_files_of_each_data_set(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With --data-root, the catalog names the missing files of each data set; the bundled one needs none."""
    for name in ("train_32x32.mat", "test_32x32.mat"):
        (folder / name).touch()
    (folder / "stl10_binary").mkdir()
    (folder / "stl10_binary/train_X.bin").touch()
    assert run_faal(monkeypatch, folder, "catalog", "--json", "--data-root", ".") == 0
    titles = json.loads(capsys.readouterr().out)["datasets"]
    absent = {name for name, title in titles.items() if "not in" in title}
    assert absent == {"cifar10", "cifar100", "mnist", "fashion-mnist", "gtsrb", "stl10"}
    assert "stl10_binary/test_X.bin" in titles["stl10"]


@pytest.mark.parametrize(
    ("command", "arguments"),
    [
        (AUDIT, ["--epsilon", "0.1", "--dataset", "absent.npz"]),
        (AUDIT, ["--epsilon", "0.1", "--images", "2"]),
        (AUDIT, ["--epsilon", "0.1", "--weights", "rows.npz"]),
        (FINETUNE, ["--device", "cuda:99"]),
    ],
)
def test_a_run_that_fails_leaves_no_folder_behind(
    folder: Path, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...], arguments: list[str]
) -> None:
    """A folder that was created for results, and its new parents, are deleted if the run fails."""
    assert run_faal(monkeypatch, folder, *command, *arguments, "--out", "new/deep") in (1, 2)
    assert sorted(path.name for path in folder.iterdir()) == ["net.safetensors", "rows.npz", "unbounded.json"]
    (folder / "mine").mkdir()
    assert run_faal(monkeypatch, folder, *command, *arguments, "--out", "mine") in (1, 2)
    assert (folder / "mine").is_dir()


def test_a_folder_that_cannot_be_written_fails_before_the_audit(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """An output folder that cannot be written is an error before any computation."""
    (folder / "file").touch()
    assert run_faal(monkeypatch, folder, *AUDIT, "--epsilon", "0.1", "--out", "file/out") == 1
    output = capsys.readouterr().err
    assert "file/out" in output
    assert "PGD" not in output


def test_keep_needs_the_folder_of_a_fine_tuning(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The error for a folder without a report or without the trained weights names the missing file."""
    (folder / "mine").mkdir()
    for file in ("report.json", "trained.safetensors"):
        assert run_faal(monkeypatch, folder, "keep", "mine", "1", "--weights", "net.safetensors") == 2
        message = " ".join(capsys.readouterr().err.split())
        assert f"mine has no {file}" in message
        assert "--out" in message
        (folder / "mine" / file).touch()


def test_errors_are_printed_in_part(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`faal` prints the first 20 of many errors and counts the others, and shortens long field names."""
    (folder / "spec.json").write_text(json.dumps({"k" * 10_000: 1, **{f"field{number}": 1 for number in range(99)}}))
    assert run_faal(monkeypatch, folder, *AUDIT, "--epsilon", "0.1", "--spec", "spec.json") == 2
    output = capsys.readouterr().err.splitlines()
    assert len(output) == 21
    assert max(map(len, output)) <= 1000
    assert output[-1] == "… and 80 more"


def test_no_name_in_an_error_drives_the_terminal(monkeypatch, tmp_path: Path, capsys) -> None:
    """A name from an untrusted archive is in the message, without the characters that a terminal obeys."""
    fill(tmp_path)
    with ZipFile(tmp_path / "rows.zip", "w") as archive:
        archive.writestr("test/a/\x1b[2J\x9b31m\u202e.png", b"no image")
        archive.writestr("test/b/1.png", b"no image")
    assert run_faal(monkeypatch, tmp_path, *AUDIT, "--dataset", "rows.zip", "--epsilon", "0.1") == 1
    complaint = capsys.readouterr().err
    assert "[2J" in complaint
    assert complaint.replace("\n", "").isprintable()
