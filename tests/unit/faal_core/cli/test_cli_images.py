"""The options of `faal` for images and classes, on class folders and a network that classifies them correctly."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from faal_core import weights
from faal_core.classifier import Classifier
from faal_core.cli import main
from faal_core.cli.results import MADE_WORSE
from faal_core.networks import build
from faal_core.results.documents import AuditReport
from faal_core.results.finetune_documents import FinetuneReport
from faal_core.results.reading import read_report
from faal_core.specs import ClassifierSpec

CLASSES = 12
SIDE = 12


def level(label: int) -> int:
    """Return the grey level of all images of a class."""
    return 10 + 20 * label


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the file of a network that distinguishes twelve grey levels, in ascending order."""
    torch.manual_seed(0)
    spec = ClassifierSpec(
        architecture="small_resnet", num_classes=CLASSES, mean=(0.5,), std=(0.25,), arguments={"width": 8}
    )
    classifier = build(spec)
    labels = torch.arange(CLASSES).repeat(4)
    images = (10 + 20 * labels).float().view(-1, 1, 1, 1).expand(-1, 1, SIDE, SIDE) / 255
    optimiser = torch.optim.Adam(classifier.parameters(), 1e-2)
    for _ in range(150):
        optimiser.zero_grad()
        torch.nn.functional.cross_entropy(classifier(images), labels).backward()
        optimiser.step()
    path = tmp_path_factory.mktemp("network") / "net.safetensors"
    weights.write_classifier(path, classifier)
    return path


def pictures(root: Path, names: dict[int, str], size: tuple[int, int] = (SIDE, SIDE), each: int = 3) -> Path:
    """Write class folders with those names and their classes' images, and return their parent."""
    for label, name in names.items():
        (root / name).mkdir(parents=True)
        for i in range(each):
            Image.new("L", size, level(label)).save(root / name / f"{i}.png")
    return root


def faal(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    """Run `faal` and return its exit code."""
    monkeypatch.setattr(sys, "argv", ["faal", *map(str, arguments)])
    with pytest.raises(SystemExit) as exit_:
        main()
    return int(exit_.value.code or 0)


@pytest.fixture
def run_audit(network: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Return a function that audits a data set with more options and returns the report."""

    def run(data: Path, *more: object, weights: Path = network) -> AuditReport:
        arguments = ("--weights", weights, "--epsilon", "1/255", "--attacks", "quick", "--out", tmp_path / "out")
        arguments = (*arguments, "--set", "escalate=false")  # the network's large logits raise warnings
        assert faal(monkeypatch, "audit", "--dataset", data, *arguments, *more) == 0
        report = read_report((tmp_path / "out/report.json").read_text())
        assert isinstance(report, AuditReport)
        return report

    return run


NUMBERS = {label: str(label) for label in range(CLASSES)}
WORDS = dict(
    enumerate(["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven"])
)


def test_number_folders_are_taken_by_number(run_audit, tmp_path: Path) -> None:
    """Folders 0 … 11 are the outputs 0 … 11 of a network without class names, and the report says that this is assumed."""
    report = run_audit(pictures(tmp_path / "set", NUMBERS))
    assert report.clean.mean.rate == 1
    assert report.dataset.class_order == "assumed-natural"
    assert "class-order-assumed" in {warning.code for warning in report.warnings}


@pytest.mark.parametrize("order", ["natural", "string"])
def test_the_order_can_be_chosen(run_audit, order: str, tmp_path: Path) -> None:
    """--class-order decides the order without a warning; in text order, only folders that keep their place are right."""
    report = run_audit(pictures(tmp_path / "set", NUMBERS), "--class-order", order)
    stay = sum(name == str(label) for label, name in enumerate(sorted(NUMBERS.values())))
    assert report.clean.mean.count == 3 * (CLASSES if order == "natural" else stay)
    assert report.dataset.class_order == order
    assert "class-order-assumed" not in {warning.code for warning in report.warnings}


@pytest.mark.parametrize("kind", ["list", "json", "file"])
def test_class_names_give_the_networks_order(run_audit, kind: str, tmp_path: Path) -> None:
    """--class-names, as a list, as JSON or in a file, names the outputs, and folders are matched to them by name."""
    lines = tmp_path / "names.txt"
    lines.write_text("\n".join(WORDS.values()))
    class_names = {"list": ",".join(WORDS.values()), "json": json.dumps(list(WORDS.values())), "file": lines}[kind]
    report = run_audit(
        pictures(tmp_path / "set", {c: name.upper() for c, name in WORDS.items()}), "--class-names", class_names
    )
    assert report.clean.mean.rate == 1
    assert report.dataset.class_names == tuple(WORDS.values())
    assert (report.dataset.class_order, report.classifier.spec.class_names) == ("matched", tuple(WORDS.values()))


def test_a_class_without_images_is_left_out_and_named(run_audit, tmp_path: Path) -> None:
    """A class without images is in no table, and a warning names it; the eleven others are audited."""
    report = run_audit(pictures(tmp_path / "set", {c: name for c, name in NUMBERS.items() if c != 7}))
    assert report.clean.mean.rate == 1
    assert [row.name for row in report.classes] == [name for name in NUMBERS.values() if name != "7"]
    (missing,) = (warning for warning in report.warnings if warning.code == "classes-without-images")
    assert "'7'" in missing.evidence
    assert len(report.dataset.class_names) == CLASSES


def test_images_are_resized_and_cropped(run_audit, tmp_path: Path) -> None:
    """--resize and --crop bring images of other sizes to the network's, and the report states both."""
    data = pictures(tmp_path / "set", {c: name for c, name in NUMBERS.items() if c % 2}, (30, 20))
    pictures(data, {c: name for c, name in NUMBERS.items() if not c % 2}, (20, 26))
    report = run_audit(data, "--resize", "16", "--crop", SIDE)
    assert report.dataset.shape == (1, SIDE, SIDE)
    assert report.clean.mean.rate == 1
    assert [note.split()[0] for note in report.dataset.preparation] == ["Resized", "Cropped"]
    assert run_audit(data, "--resize", f"{SIDE},{SIDE}").dataset.shape == (1, SIDE, SIDE)


def test_images_in_a_cache_and_groups_of_classes(run_audit, tmp_path: Path) -> None:
    """--cache stores decoded images, --class-groups breaks the report down, and the report is otherwise the same."""
    data = pictures(tmp_path / "set", NUMBERS)
    (tmp_path / "groups.csv").write_text(
        "class,half\n" + "".join(f"{c},{'low' if c < 6 else 'high'}\n" for c in NUMBERS)
    )
    options = ("--cache", tmp_path / "cache", "--class-groups", tmp_path / "groups.csv")
    reports = [run_audit(data, *more) for more in ((), options, options)]
    assert len(list((tmp_path / "cache").glob("*.npy"))) == 1
    assert [[(group.name, group.images) for group in table.groups] for table in reports[1].groups] == [
        [("high", 18), ("low", 18)]
    ]
    assert reports[1].outcomes_sha256 == reports[2].outcomes_sha256 != reports[0].outcomes_sha256
    excluded = {"created_at", "seconds", "groups", "outcomes_sha256", "attacks"}
    first, *others = (report.model_dump(exclude=excluded) for report in reports)
    assert others == [first, first]


def test_large_images_are_cached_beside_the_ledger(run_audit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without --cache, images of the bound or more are cached beside the ledger, or in the user's folder."""
    data = pictures(tmp_path / "set", NUMBERS)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user"))
    for name in ("run", "other"):
        (tmp_path / name).mkdir()
    run_audit(data, "--ledger", tmp_path / "run/audit.ledger")
    assert not (tmp_path / "run/image-cache").exists()
    monkeypatch.setattr("faal_core.cli.image_options._LARGE_BYTES", 36 * SIDE**2)
    run_audit(data, "--ledger", tmp_path / "other/audit.ledger")
    run_audit(data)
    for folder in ("other/image-cache", "user/faal"):
        assert len(list((tmp_path / folder).glob("*.npy"))) == 1, folder


def test_another_part_can_be_audited(run_audit, tmp_path: Path) -> None:
    """--part validation audits the images of val/ in a data set without a test part."""
    pictures(tmp_path / "set/train", NUMBERS)
    pictures(tmp_path / "set/val", NUMBERS, each=2)
    report = run_audit(tmp_path / "set", "--part", "validation")
    assert (report.dataset.part, report.dataset.images) == ("validation", 24)


def test_finetuned_weights_carry_the_class_names(
    run_audit, network: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fine-tuning gives a network the class names of its training data, and later data sets are matched by name."""
    for part in ("train", "test"):
        pictures(tmp_path / "set" / part, WORDS)
    spec = tmp_path / "spec.json"
    # Without validation images the trained weights are selected.
    spec.write_text(json.dumps({"training": {"validation_fraction": 0}, "audit": {"escalate": False}}))
    order = ("--spec", spec, "--class-names", ",".join(WORDS.values()))
    arguments = ("--weights", network, "--epsilon", "1/255", "--attacks", "quick", "--out", tmp_path / "tuned")
    training = ("--set", "training.attack.steps=1", "--learning-rates", "1e-6", "--set", "training.batch_size=12")
    status = faal(monkeypatch, "finetune", "--dataset", tmp_path / "set", *arguments, *training, *order)
    assert status in (0, MADE_WORSE)  # the test does not depend on which one
    report = read_report((tmp_path / "tuned/report.json").read_text())
    assert isinstance(report, FinetuneReport)
    assert report.training_dataset.class_order == "matched"
    later = run_audit(tmp_path / "set", weights=tmp_path / "tuned/weights.safetensors")
    assert later.classifier.spec.class_names == tuple(WORDS.values())
    assert (later.dataset.class_order, later.dataset.sha256) == ("matched", report.after.dataset.sha256)


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--resize", "a"], 2, "'a' is no size"),
        (["--resize", "0"], 2, "'0' is no size"),
        (["--resize", "1,2,3"], 2, "'1,2,3' is no size"),
        (["--crop", "0"], 2, "--crop"),
        (["--class-order", "random"], 2, "--class-order"),
        (["--class-names", "one,two"], 2, "2 class names for 12 classes"),
        (["--class-names", "absent.txt"], 2, "neither a list with commas nor a file"),
        (["--class-names", "[1"], 2, "not JSON"),
        (["--class-names", "[" * 50_000], 2, "not JSON"),
        (["--class-names", '["one", {"two": 2}]'], 2, "each name is a string or a whole number"),
        (["--class-names", ",".join(f"class number {c}" for c in range(100))], 2, "100 class names for 12 classes"),
        (["--class-names", "x" * 5000], 2, "neither a list with commas nor a file"),
        (["--part", "dev"], 2, "--part"),
        (["--class-names", "b,a," + ",".join("cdefghijkl")], 1, "--class-names"),
    ],
)
def test_wrong_options_are_named(
    network: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    code: int,
    message: str,
) -> None:
    """The error for a value that cannot be read or does not fit names its option."""
    data = pictures(tmp_path / "set", {c: "abcdefghijkz"[c] for c in range(CLASSES)})
    command = ("audit", "--weights", network, "--epsilon", "1/255", "--out", tmp_path / "out", "--dataset", data)
    monkeypatch.chdir(tmp_path)
    assert faal(monkeypatch, *command, *arguments) == code
    assert message in " ".join(capsys.readouterr().err.replace("│", " ").split())


@pytest.mark.parametrize(
    ("dataset", "more", "message"),
    [
        (
            "cifar10",
            [],
            "cifar-10-batches-py/test_batch missing. Pass --data-root DIR, or --download",
        ),
        ("cifar10", ["--data-root", "pool"], "Data set 'cifar10' was not found in pool"),
        ("sizes", [], "all must have one size. Pass --resize N"),
        ("parts", [], "Choose another part with --part"),
    ],
)
def test_errors_name_the_option_that_helps(
    network: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    dataset: str,
    more: list[str],
    message: str,
) -> None:
    """Errors about the data name the option that makes the command work."""
    pictures(tmp_path / "sizes", {0: "0"})
    pictures(tmp_path / "sizes", {1: "1"}, (9, 9))
    pictures(tmp_path / "parts/train", NUMBERS)
    monkeypatch.chdir(tmp_path)
    assert (
        faal(
            monkeypatch,
            "audit",
            "--weights",
            network,
            "--epsilon",
            "1/255",
            "--out",
            "out",
            "--dataset",
            dataset,
            *more,
        )
        == 1
    )
    assert message in capsys.readouterr().err


def test_decide_worst_ends_an_audit_early(run_audit, tmp_path: Path) -> None:
    """With --decide-worst, 50 robust images of each class show that every class reaches the limit."""
    report = run_audit(pictures(tmp_path / "set", NUMBERS, each=60), "--decide-worst", "0.5")
    assert (report.sequential.status, report.dataset.images) == ("pass", 50 * CLASSES)


def test_transfer_from_attacks_by_the_gradients_of_another_network(run_audit, tmp_path: Path) -> None:
    """With --transfer-from, the attacks of the spec are followed by two that name the file's network."""
    spec = ClassifierSpec(architecture="small_resnet", num_classes=CLASSES, mean=(0.5,), std=(0.25,))
    weights.write_classifier(tmp_path / "other.safetensors", build(spec))
    report = run_audit(pictures(tmp_path / "set", NUMBERS), "--transfer-from", tmp_path / "other.safetensors")
    assert [attack.type for attack in report.spec.attacks] == ["pgd", "transfer", "transfer"]
    assert report.spec.attacks[1].source.name == "other"


def test_the_network_names_no_classes(network: Path) -> None:
    """The fixture's network has no class names and classifies every level correctly, as the tests above assume."""
    classifier: Classifier = weights.read_classifier(network)
    assert classifier.spec.class_names is None
    logits = classifier(
        torch.tensor([level(c) / 255 for c in range(CLASSES)]).view(-1, 1, 1, 1).expand(-1, 1, SIDE, SIDE)
    )
    assert np.array_equal(logits.argmax(1).numpy(), np.arange(CLASSES))
