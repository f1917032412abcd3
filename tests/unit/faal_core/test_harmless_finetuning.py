"""Test, for several networks and data sets, that a default fine-tuning does no harm that the test images can show."""

from collections.abc import Callable
from functools import partial
from importlib.resources import as_file, files
from pathlib import Path

import pytest
import torch
from torch.nn import functional

from faal_core import datasets
from faal_core.classifier import Classifier
from faal_core.datasets.labelled_images import LabelledImages
from faal_core.finetuning.run import run_finetuning
from faal_core.networks import build
from faal_core.reports import terminal, text
from faal_core.specs import (
    AuditSettings,
    ClassifierSpec,
    FinetuneSpec,
    TrainingAttack,
    TrainingSpec,
    UniformMethod,
)
from faal_core.threat_model import ThreatModel
from faal_core.training.recipe import train
from faal_core.weights import read_classifier
from tests.robust_networks import (
    BASE,
    CNN_A,
    REFERENCE,
    Reference,
    needs_reference,
    robust_networks,  # noqa: F401 - a fixture
)

CPU = torch.device("cpu")
Case = tuple[Classifier, LabelledImages, LabelledImages, float]
"""A classifier, training and test images, and the radius."""


def small_resnet(data: LabelledImages, width: int = 8) -> Classifier:
    """Build a random network for those images."""
    torch.manual_seed(0)
    mean, std = (0.5,) * data.images.shape[1], (0.25,) * data.images.shape[1]
    arguments = {"width": width}
    spec = ClassifierSpec(
        architecture="small_resnet", num_classes=len(data.class_names), mean=mean, std=std, arguments=arguments
    )
    return build(spec)


def train_adversarially(data: LabelledImages, epsilon: float, epochs: int) -> Classifier:
    """Train a small network by some epochs of plain adversarial training."""
    training = TrainingSpec(
        learning_rates=(0.05,) * epochs, attack=TrainingAttack(steps=3), batch_size=64, validation_fraction=0
    )
    spec = FinetuneSpec(threat=ThreatModel(epsilon=epsilon), method=UniformMethod(), training=training)
    return train(small_resnet(data), data, spec, device=CPU).classifier


def train_without_attacks(data: LabelledImages, steps: int) -> Classifier:
    """Train a network by that many steps of Adam on batches of 48."""
    classifier, generator = small_resnet(data, width=16).train(), torch.Generator().manual_seed(0)
    optimizer = torch.optim.Adam(classifier.parameters(), 2e-3)
    for _ in range(steps):
        rows = torch.randint(len(data), (48,), generator=generator)
        loss = functional.cross_entropy(classifier(data.pixels(rows, CPU)), data.labels[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return classifier.eval()


def parts(name: str, training: int, testing: int) -> tuple[LabelledImages, LabelledImages]:
    """Return `training` and `testing` images of the parts of a data set."""
    both = (datasets.load(name, part) for part in ("train", "test"))
    train_part, test_part = (
        data.take(data.stratified(count, 0)) for data, count in zip(both, (training, testing), strict=True)
    )
    return train_part, test_part


def bundled_network() -> Case:
    """Return the bundled, adversarially trained classifier with its own data."""
    with as_file(files("faal_core") / "bundled/classifier.safetensors") as path:
        return read_classifier(path), *parts("fashion-mnist-subset", 6000, 3000), 0.1


def not_robust() -> Case:
    """Return a network that was trained without attacks: it has clean accuracy to lose, and no robust accuracy."""
    training, testing = parts("fashion-mnist-subset", 800, 3000)
    classifier = train_without_attacks(datasets.load("fashion-mnist-subset", "train"), 300)
    return classifier, training, testing, 0.1


def two_classes() -> Case:
    """Return a network that was shortly trained on shirts and T-shirts alone."""
    sets = [
        LabelledImages(
            images=data.images[rows],
            labels=(data.labels[rows] == 6).long(),
            class_names=("T-shirt", "Shirt"),
            name="tops",
            part=data.part,
        )
        for data in parts("fashion-mnist-subset", 6000, 3000)
        for rows in [(data.labels == 0) | (data.labels == 6)]
    ]
    return train_adversarially(sets[0], 0.03, epochs=3), *sets, 0.03  # type: ignore[return-value]


def many_classes() -> Case:
    """Return a network on 43 noisy prototypes, some of them similar, with uneven numbers of images, like traffic signs."""
    generator = torch.Generator().manual_seed(0)
    prototypes = torch.randint(40, 216, (43, 3, 12, 12), generator=generator).float()
    prototypes[1::4] = prototypes[::4][: len(prototypes[1::4])] + 12 * torch.randn(11, 3, 12, 12, generator=generator)
    sets = []
    for part, least in (("train", 24), ("test", 30)):
        labels = torch.cat([torch.full((least + 2 * c,), c) for c in range(43)])
        images = prototypes[labels] + 40 * torch.randn(len(labels), 3, 12, 12, generator=generator)
        names = tuple(f"sign {c}" for c in range(43))
        sets.append(LabelledImages(images.clamp(0, 255).byte(), labels, names, "signs", part))
    return train_adversarially(sets[0], 4 / 255, epochs=6), *sets, 4 / 255  # type: ignore[return-value]


def reference(network: Reference, folder: Path) -> Case:
    """Return another project's robust network with 2,000 training and 2,000 test images of CIFAR-10."""
    sets = []
    for part, count in (("train", 2000), ("test", 2000)):
        data = datasets.load(str(Path(REFERENCE or "") / f"cifar10-{part}.npz"), "test")
        rows = data.stratified(count, 0)
        sets.append(LabelledImages(data.images[rows], data.labels[rows], data.class_names, "cifar10", part))
    return network.classifier(folder), *sets, 2 / 255  # type: ignore[return-value]


CASES: list[object] = [
    pytest.param(two_classes, id="two classes"),
    pytest.param(many_classes, id="43 classes", marks=pytest.mark.slow),
    pytest.param(not_robust, id="not robust", marks=pytest.mark.slow),
    pytest.param(bundled_network, id="bundled", marks=pytest.mark.slow),
    *(
        pytest.param(partial(reference, one), id=one.architecture, marks=[needs_reference, pytest.mark.slow])
        for one in (CNN_A, BASE)
    ),
]


@pytest.mark.timeout(3000)
@pytest.mark.usefixtures("robust_networks")
@pytest.mark.parametrize("case", CASES)
def test_a_default_fine_tuning_does_no_harm(case: Callable[..., Case], tmp_path: Path) -> None:
    """No mean falls significantly, the first sentence names every other fall, and kept weights are the given ones."""
    classifier, training, testing, epsilon = case(tmp_path) if isinstance(case, partial) else case()
    spec = FinetuneSpec(threat=ThreatModel(epsilon=epsilon), audit=AuditSettings(attacks="quick"))
    result = run_finetuning(classifier, training, testing, spec, name="given", device=CPU)
    report = result.report
    print(terminal.summary(report))  # noqa: T201 - it explains a failure
    assert report.clean.mean_change.high >= 0
    assert report.robust.mean_change.high >= 0
    first, *_ = text.verdict(report)
    for fall in report.falls[: text.LISTED_FALLS]:
        assert fall.name in first
    if report.outcome == "kept-original":
        assert result.classifier is classifier
    else:
        selection = report.candidates[report.selected_candidate]
        assert selection.within_bounds
        assert selection.robust_worst > report.candidates[0].robust_worst
