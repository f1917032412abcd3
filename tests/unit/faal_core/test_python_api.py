"""The Python API: a network and images of one's own, audited, fine-tuned and compared in a few lines."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import faal_core as faal
from faal_core.auditing.evaluator import Evaluator
from faal_core.datasets.labelled_images import LabelledImages
from faal_core.errors import FaalError
from faal_core.evidence.statistics_check import list_unsupported
from faal_core.results.reading import read_report
from faal_core.threat_model import Norm
from tests.linear_classifier import Linear, build_linear_classifier, compute_smallest_radius

SHAPE = (3, 6, 6)
IMAGES = torch.rand(60, *SHAPE, generator=torch.Generator().manual_seed(1))


def linear_network() -> Linear:
    """Return a network of one layer whose smallest adversarial perturbations are known."""
    backbone: Linear = build_linear_classifier(4, SHAPE).backbone
    return backbone


CLASSIFIER = faal.Classifier.wrap(linear_network(), num_classes=4)
LABELS = CLASSIFIER(IMAGES).argmax(1).detach()


def audit(**options: Any) -> faal.AuditResult:
    """Audit the linear network on the images that it classifies correctly, without progress."""
    fields = {"classifier": CLASSIFIER, "images": IMAGES, "labels": LABELS, "epsilon": 0.02, "attacks": "quick"}
    result: faal.AuditResult = faal.audit(**fields | {"progress": False} | options)
    return result


def test_a_wrapped_network_is_audited_in_two_lines() -> None:
    """Outcomes of a linear network are those of the closed form: robust where no point of the ball crosses a boundary."""
    result = audit(attacks=[{"type": "pgd", "steps": 30, "loss": "margin"}])
    radius = compute_smallest_radius(CLASSIFIER, IMAGES, LABELS, Norm.LINF)
    clear = ((radius - 0.02).abs() > 1e-3).numpy()
    assert np.array_equal(result.evaluation.robust[clear], (radius > 0.02).numpy()[clear])
    assert clear.sum() > 50
    assert 5 < result.evaluation.robust.sum() < 55
    assert result.report.classifier.spec.architecture == "python:tests.linear_classifier.Linear"
    assert result.report.classifier.name == "Linear"


@pytest.mark.parametrize(
    ("images", "labels"),
    [
        (IMAGES.numpy(), LABELS.numpy()),
        (IMAGES.permute(0, 2, 3, 1).numpy(), LABELS.numpy()),
        (IMAGES.double().numpy(), LABELS.numpy().astype(np.uint8)[:, None]),
        (IMAGES.requires_grad_(False).clone().requires_grad_(), LABELS),
        (list(IMAGES.numpy()), LABELS.tolist()),
    ],
    ids=["numpy", "channels last", "float64 and labels of shape n × 1", "with a gradient", "lists"],
)
def test_arrays_of_each_kind_give_the_same_outcomes(images: Any, labels: Any) -> None:
    """Tensors, arrays and lists of the same pixels have the same digest and the same outcomes."""
    result, reference = audit(images=images, labels=labels), audit()
    assert result.report.dataset.sha256 == reference.report.dataset.sha256
    assert np.array_equal(result.evaluation.broken_by, reference.evaluation.broken_by)


def test_a_network_keeps_its_mode_and_its_gradients() -> None:
    """An audit leaves each module in the mode it had, and weights that need gradients still need them."""
    network = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.BatchNorm1d(108), nn.Linear(108, 4))
    network[2].eval()
    statistics = network[2].running_mean.clone()
    faal.audit(
        faal.Classifier.wrap(network, num_classes=4), IMAGES, LABELS, epsilon=0.02, attacks="quick", progress=False
    )
    assert [module.training for module in network] == [True, True, False, True]
    assert torch.equal(network[2].running_mean, statistics)
    assert all(parameter.requires_grad for parameter in network.parameters())


@pytest.mark.parametrize("precision", [torch.float64, torch.bfloat16])
def test_a_network_computes_in_its_own_precision(precision: torch.dtype) -> None:
    """A network in double or half precision gets images of its type, and its logits come back in float32."""
    classifier = faal.Classifier.wrap(linear_network().to(precision), num_classes=4)
    assert classifier(IMAGES).dtype == torch.float32
    assert audit(classifier=classifier).report.clean.mean.rate > 0.9


class Returns(nn.Module):
    """Returns the value that a function makes of its logits."""

    def __init__(self, change: Any) -> None:
        super().__init__()
        self.network, self.change = linear_network(), change

    def forward(self, x: Tensor) -> Any:
        """Return the changed logits."""
        return self.change(self.network(x))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda z: (z, z), "a tuple.*one of the 2 entries"),
        (lambda z: {"loss": 0, "logits": z}, "a dict with loss, logits.*output's logits alone"),
        (lambda z: z.softmax(1), "probabilities.*without the last softmax"),
        (lambda z: z[:, :1], r"shape \(60, 1\).*4 logits"),
        (lambda z: None, "a NoneType"),
    ],
)
def test_outputs_that_are_no_logits_are_refused_by_name(change: Any, message: str) -> None:
    """A tuple, a mapping, probabilities and a wrong width each have a message that says what to return."""
    with pytest.raises(FaalError, match=f"(?s){message}"):
        audit(classifier=faal.Classifier.wrap(Returns(change), num_classes=4), subset=None)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"classifier": linear_network()}, "Wrap it first"),
        ({"labels": None}, "have no labels"),
        ({"images": (IMAGES - 0.5) / 0.25}, "look normalised"),
        ({"images": IMAGES * 255}, "divide by 255"),
        ({"labels": LABELS + 4}, "label"),
        ({"labels": LABELS[:5]}, "60 images and 5 labels"),
        ({"labels": torch.eye(4)[LABELS]}, "one-hot"),
        ({"epsilon": "8/0"}, "epsilon: '8/0' is not a radius"),
        ({"epsilon": 8}, "8/255"),
        ({"epsilon": []}, "Pass at least one"),
        ({"epsilon": [0.1, 0.2], "ledger": "x"}, "exactly one"),
        ({"norm": "l7"}, "norm"),
        ({"attacks": "fastest"}, "did you mean fast"),
        ({"subset": 1000}, "1000 images were requested"),
        ({"class_names": ["a", "a", "b", "c"]}, "same name"),
        ({"class_names": ["a", "b", "c"]}, "label 3 is not in 0…2"),
        ({"groups": {"camera": ["a"] * 3}}, "groups for 3 of 60"),
        ({"images": LabelledImages(IMAGES, LABELS, tuple("0123"), "x", "test")}, "Leave out the argument labels"),
        ({"keep_adversarial": "images.png"}, "a .npy file"),
    ],
)
def test_wrong_arguments_are_refused_with_a_remedy(options: dict[str, Any], message: str) -> None:
    """Each wrong argument raises a FaalError that names it and the remedy."""
    with pytest.raises(FaalError, match=message):
        audit(**options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_classes": 1}, "at least two logits"),
        ({"num_classes": 4, "mean": (0.1, 0.2), "std": (1.0, 1.0, 1.0)}, "mean has 2 channels and std has 3"),
        ({"num_classes": 4, "std": 0.0}, "positive"),
        ({"num_classes": 4, "class_names": ["a"]}, "1 class names for 4 classes"),
        ({"num_classes": 4, "network": CLASSIFIER}, "wrapped already"),
    ],
)
def test_wrap_refuses_what_no_audit_could_use(options: dict[str, Any], message: str) -> None:
    """A wrong description of a network raises InvalidSpec, with the field's name, before an image is seen."""
    with pytest.raises(faal.FaalError, match=message):
        faal.Classifier.wrap(**{"network": linear_network()} | options)


def test_a_single_mean_holds_for_all_channels() -> None:
    """A mean and std given once give the logits of the same values repeated for each channel."""
    once, each = (
        faal.Classifier.wrap(linear_network(), num_classes=4, mean=mean, std=std)
        for mean, std in ((0.4, 0.2), ([0.4] * 3, torch.full((3,), 0.2)))
    )
    assert torch.allclose(once(IMAGES), each(IMAGES))
    assert audit(classifier=once, labels=once(IMAGES).argmax(1)).report.classifier.spec.mean == (0.4, 0.4, 0.4)


def test_results_have_a_row_for_each_class_and_each_image() -> None:
    """The frames have the report's rates and each image's outcome, in pandas' types."""
    result = audit(groups={"camera": ["left", "right"] * 30}, class_names=tuple("abcd"), subset=40)
    frame, outcomes = result.to_frame(), result.outcomes_frame()
    assert frame["robust"].tolist() == [row.robust.rate for row in result.report.classes]
    assert frame["after 1: PGD-10 (cross-entropy)"].tolist() == frame["robust"].tolist()
    assert outcomes["robust"].mean() == result.report.robust.mean.rate
    assert outcomes["image"].is_monotonic_increasing
    assert (LABELS.numpy()[outcomes["image"]] == outcomes["label"]).all()
    assert outcomes["group camera"].tolist() == [("left", "right")[row % 2] for row in outcomes["image"]]
    assert (outcomes["broken_by"].notna() == ~outcomes["robust"]).all()


def test_adversarial_images_are_those_that_the_report_vouches_for(tmp_path: Path) -> None:
    """Each lies within the radius, is misclassified where its image was broken, and has the digest of the report."""
    result = audit(keep_adversarial=tmp_path / "x.npy", ledger=tmp_path / "ledger")
    images, broken = result.adversarial_images, result.evaluation.broken_by >= 0
    assert images is not None
    assert (images - IMAGES).abs().max() <= 0.02 + 1e-6
    assert np.array_equal((CLASSIFIER(images).argmax(1) != LABELS).numpy(), broken)
    assert torch.equal(images[~broken], IMAGES[~broken])
    resumed = audit(keep_adversarial=tmp_path / "x.npy", ledger=tmp_path / "ledger")
    assert np.array_equal(np.load(tmp_path / "x.npy"), images.numpy())
    assert torch.equal(resumed.adversarial_images, images)
    (tmp_path / "x.npy").unlink()
    with pytest.raises(FaalError, match="lacks their adversarial images"):
        audit(keep_adversarial=tmp_path / "x.npy", ledger=tmp_path / "ledger")


def test_each_radius_of_a_series_has_the_report_of_its_own_audit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several radii in one call give, smallest first, the rows of as many calls, and predict the clean images once."""
    alone = {epsilon: audit(epsilon=epsilon).report.classes for epsilon in (0.03, 2 / 255)}
    predictions = []
    predict_clean = Evaluator.evaluate_clean
    monkeypatch.setattr(
        Evaluator, "evaluate_clean", lambda self, rows: predictions.append(len(rows)) or predict_clean(self, rows)
    )
    series = faal.audit(CLASSIFIER, IMAGES, LABELS, epsilon=[0.03, "2/255"], attacks="quick", progress=False)
    assert [result.report.spec.threat.epsilon for result in series.results] == [2 / 255, 0.03]
    assert all(result.report.classes == alone[result.report.spec.threat.epsilon] for result in series.results)
    assert len(series.to_frame()) == 8
    assert sum(predictions) == len(IMAGES)


def test_two_audits_of_the_same_images_are_compared() -> None:
    """The comparison of an audit with itself has no change; other radii or attacks are refused by name."""
    frame = faal.compare(audit(), audit()).to_frame()
    assert (frame["robust_before"] == frame["robust_after"]).all()
    assert set(frame["robust_verdict"]) == {"unclear"}
    for other, message in (
        (audit(epsilon=0.03), "different radii"),
        (audit(attacks="pgd-20"), "different attacks"),
        (audit(attacks=[{"type": "pgd", "steps": 10, "relative_step": 0.5}]), "different attacks.*relative_step=0.5"),
        (
            faal.audit(CLASSIFIER, IMAGES, LABELS, epsilon=[0.02, 0.03], progress=False),
            "A RadiusSeries is not the result",
        ),
        (7, "A int is not the result"),
    ):
        with pytest.raises(FaalError, match=message):
            faal.compare(audit(), other)
    for other in (audit(images=IMAGES.flip(0), labels=LABELS.flip(0)), audit(subset=30)):
        compared = faal.compare(audit(), other).report
        assert (compared.pairing, "different images" in compared.reason) == ("two-sample", True)


def test_stored_audits_are_compared_and_listed(tmp_path: Path) -> None:
    """The path of a folder names the audit in it; a table has one row per audit, each with its radius."""
    strong, weak = audit(), audit(epsilon=0.03)
    strong.save(tmp_path / "strong")
    weak.save(tmp_path / "weak")
    compared = faal.compare(tmp_path / "strong", strong)
    assert compared.report.pairing == "paired"
    compared.save(tmp_path / "comparison")
    assert (tmp_path / "comparison/report.html").exists()
    table = faal.tabulate([str(tmp_path / "weak"), strong])
    assert list(table.to_frame()["radius"]) == ["L∞ ε = 0.02", "L∞ ε = 0.03"]
    assert "has the highest lower bound" in str(table)
    with pytest.raises(FaalError, match="is a comparison, not the report of an audit"):
        faal.compare(tmp_path / "comparison", strong)


def test_a_fine_tuning_takes_arrays_and_leaves_the_network_alone() -> None:
    """The given weights stay as they were; the result has a row for each class, a chart, a page and the new classifier."""
    before = {name: value.clone() for name, value in CLASSIFIER.backbone.state_dict().items()}
    done = faal.finetune(
        CLASSIFIER,
        (IMAGES, LABELS),
        (IMAGES, LABELS),
        epsilon=0.02,
        method="uniform",
        training={"learning_rates": [0.01], "batch_size": 20, "attack": {"steps": 1}},
        attacks="quick",
        progress=False,
    )
    assert all(torch.equal(value, before[name]) for name, value in CLASSIFIER.backbone.state_dict().items())
    assert len(done.to_frame()) == 4
    assert done.plot().to_dict()["layer"]
    assert "<iframe" in done._repr_html_()
    with pytest.raises(FaalError, match="'trades' is none of faal, head, uniform"):
        faal.finetune(CLASSIFIER, (IMAGES, LABELS), (IMAGES, LABELS), epsilon=0.02, method="trades")
    with pytest.raises(FaalError, match=r"training\.lr: there is no such field"):
        faal.finetune(CLASSIFIER, (IMAGES, LABELS), (IMAGES, LABELS), epsilon=0.02, training={"lr": 1})


def test_a_fine_tuning_by_groups_reports_every_cell() -> None:
    """The cells of a fine-tuning by groups have all images, a class weight each, and a place in text, page and JSON."""
    groups = {"site": ["north", "south"] * (len(IMAGES) // 2)}
    unbounded = {"max_robust_drop": None, "max_clean_drop": None}  # so new weights are kept
    training = {"learning_rates": [0.01], "batch_size": 20, "attack": {"steps": 1}, "validation_fraction": 0.2}
    options = {
        "epsilon": 0.02,
        "method": {"type": "faal", "groups": "site", "min_cell_images": 2},
        "training": training | unbounded,
        "attacks": "quick",
        "progress": False,
    }
    pair = (IMAGES, LABELS)
    done = faal.finetune(CLASSIFIER, pair, pair, train_groups=groups, test_groups=groups, **options)
    cells = done.report.cells
    sizes = [(row.training_images, row.test_images) for row in cells.cells]
    assert np.sum(sizes, axis=0).tolist() == [len(IMAGES)] * 2
    weights = done.report.epochs[0].class_weights
    assert len(weights) == len(cells.cells)
    assert min(weights) > 0
    assert "cell by site" in str(done)
    assert cells.cells[0].name in str(done)
    assert "Cell by cell" in done._repr_html_()
    assert read_report(done.report.model_dump_json()) == done.report
    stored = (
        {"before": done.report.before, "after": done.report.after},
        dict(zip(("before", "after"), done.outcomes, strict=True)),
    )
    assert list_unsupported(done.report, *stored) == []
    first, *others = cells.cells
    moved = cells.model_copy(update={"cells": (first.model_copy(update={"test_images": 1}), *others)})
    assert list_unsupported(done.report.model_copy(update={"cells": moved}), *stored) == ["cells.cells[0].test_images"]
    with pytest.raises(FaalError, match=r"the test part of images has no column of groups 'site'; it has none"):
        faal.finetune(CLASSIFIER, pair, pair, train_groups=groups, **options)


def test_a_result_shows_itself_in_a_notebook_and_a_terminal(tmp_path: Path) -> None:
    """The page of the report is in a frame of its own, charts are of altair, and printing gives verdict and classes."""
    result = audit()
    assert result._repr_html_().startswith("<iframe")
    assert 'srcdoc="&lt;!doctype html' in result._repr_html_()
    assert {layer["mark"]["type"] for layer in result.plot().to_dict()["layer"]} == {"rule", "point"}
    assert "Accuracy under PGD-10" in str(result)
    result.save(tmp_path / "out")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"report.json", "report.html", "outcomes.parquet"}


def test_the_package_imports_torch_only_when_a_name_needs_it() -> None:
    """`import faal_core` is quick and free of torch; its public names are all there, and no other."""
    code = (
        "import sys, faal_core; assert 'torch' not in sys.modules; "
        "[getattr(faal_core, name) for name in faal_core.__all__]; assert 'torch' in sys.modules; faal_core.nothing"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert answer.stderr.rstrip().endswith("module 'faal_core' has no attribute 'nothing'")


def test_a_function_is_no_network() -> None:
    """A callable that is no module, such as a function, is refused with the type that is needed."""
    code = "import faal_core as faal; faal.Classifier.wrap(lambda x: x, num_classes=4)"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert answer.stderr.rstrip().endswith("InvalidSpec: A network is a torch.nn.Module, not function.")


def test_no_progress_is_printed_into_a_pipe(capfd: pytest.CaptureFixture[str]) -> None:
    """Outside of a terminal and a notebook an audit prints nothing."""
    audit(progress=True)
    assert capfd.readouterr() == ("", "")
