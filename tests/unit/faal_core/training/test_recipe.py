"""The training loop on a few bundled images: it learns, weighs, resumes exactly and stops cleanly."""

import random
from importlib.resources import as_file, files
from pathlib import Path

import pytest
import torch
from pydantic import BaseModel
from torch import nn

from faal_core.classifier import Classifier
from faal_core.datasets import load
from faal_core.datasets.labelled_images import LabelledImages
from faal_core.errors import TrainingDiverged
from faal_core.networks import build
from faal_core.progress import Cancelled, NoProgress, Progress
from faal_core.results.finetune_documents import EpochRow
from faal_core.specs import (
    Averaging,
    CfaMethod,
    CfolMethod,
    ClassifierSpec,
    DafaMethod,
    FaalMethod,
    FinetuneSpec,
    FrlMethod,
    MethodSpec,
    TrainingAttack,
    TrainingSpec,
    UniformMethod,
    WatMethod,
    WeightPerturbation,
)
from faal_core.threat_model import ThreatModel
from faal_core.training import recipe
from faal_core.training.recipe import train
from faal_core.training.selection import TrainingResult
from faal_core.weights import read_classifier

CPU = torch.device("cpu")
SPEC = FinetuneSpec(
    threat=ThreatModel(epsilon=0.1),
    method=FaalMethod(class_offsets=False),
    training=TrainingSpec(
        learning_rates=(0.1, 0.1, 0.02),
        attack=TrainingAttack(steps=2),
        batch_size=32,
        validation_fraction=0.2,
        max_robust_drop=None,
        max_clean_drop=None,
    ),
)
BOUNDS = {"max_robust_drop": 1.0, "max_clean_drop": 1.0}  # any fall is allowed, and candidates are judged


@pytest.fixture(scope="module")
def data() -> LabelledImages:
    """300 training images, 30 a class."""
    bundled = load("fashion-mnist-subset", "train")
    return bundled.take(bundled.stratified(300, 0))


def fresh_classifier() -> Classifier:
    """The smallest network, always with the same weights."""
    torch.manual_seed(0)
    return build(ClassifierSpec(architecture="small_resnet", num_classes=10, arguments={"width": 8}))


def run(
    data: LabelledImages, checkpoint: Path | None = None, progress: Progress | None = None, **changes: object
) -> TrainingResult:
    """A short training."""
    spec = SPEC.model_copy(update={"training": SPEC.training.model_copy(update=changes)})
    return train(fresh_classifier(), data, spec, device=CPU, checkpoint=checkpoint, progress=progress)


@pytest.fixture(scope="module")
def undisturbed(data: LabelledImages) -> TrainingResult:
    """The short training, to which nothing happened."""
    return run(data)


class StopsAfter(NoProgress):
    """Calls the work off after so many batches, of training or of validation."""

    def __init__(self, batches: int) -> None:
        self.left = batches

    def advance(self, count: int = 1) -> None:
        """One batch less, if any image was in it."""
        self.left -= count > 0
        if self.left < 0:
            raise Cancelled


class StopsIn(NoProgress):
    """Calls the work off in the middle of an epoch, as a kill would."""

    def __init__(self, epoch: int) -> None:
        self.epoch, self.running, self.done = epoch, 0, 0

    def stage(self, name: str, total: int) -> None:
        """Notes which epoch runs."""
        self.running += name.startswith("epoch")
        self.done = 0

    def advance(self, count: int = 1) -> None:
        """Stops at the second batch of the epoch."""
        self.done += 1
        if self.running == self.epoch and self.done == 2:
            raise Cancelled


class Listens(NoProgress):
    """Hears of rows, and which of them were replayed."""

    def __init__(self) -> None:
        self.rows: list[BaseModel] = []
        self.replayed = 0

    def record(self, row: BaseModel) -> None:
        """One more."""
        self.rows.append(row)

    def replay(self, row: BaseModel) -> None:
        """One more, of an earlier run."""
        self.rows.append(row)
        self.replayed += 1


def same_weights(one: Classifier, two: Classifier) -> bool:
    """Whether all weights and statistics agree bit for bit."""
    return all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), two.state_dict().values(), strict=True))


def test_the_loss_falls(data: LabelledImages) -> None:
    """Training lowers the weighted adversarial loss and leaves the given classifier untouched."""
    classifier = fresh_classifier()
    trained = train(classifier, data, SPEC, device=CPU)
    assert trained.epochs[-1].loss < trained.epochs[0].loss
    assert same_weights(classifier, fresh_classifier())
    assert not same_weights(classifier, trained.classifier)
    assert trained.validation_images == 60


@pytest.mark.parametrize("epoch", [1, 2, 3])
def test_resumes_bit_for_bit(data: LabelledImages, undisturbed: TrainingResult, tmp_path: Path, epoch: int) -> None:
    """A run stopped in any epoch and taken up again ends with an undisturbed one's weights and rows, and replays those before."""
    with pytest.raises(Cancelled):
        run(data, tmp_path / "training.pt", StopsIn(epoch))
    listens = Listens()
    resumed = run(data, tmp_path / "training.pt", listens)
    assert (tuple(listens.rows), listens.replayed) == (tuple(resumed.epochs), epoch - 1)
    assert same_weights(undisturbed.classifier, resumed.classifier)
    without_times = [
        [row.model_copy(update={"seconds": 0}) for row in trained.epochs] for trained in (undisturbed, resumed)
    ]
    assert without_times[0] == without_times[1]


class Stages(StopsIn):
    """Keeps the names of the stages, and stops in that epoch."""

    def __init__(self, epoch: int) -> None:
        super().__init__(epoch)
        self.names: list[str] = []

    def stage(self, name: str, total: int) -> None:
        """Notes the name too."""
        self.names.append(name)
        super().stage(name, total)


def test_class_offsets_are_found_once(data: LabelledImages, tmp_path: Path) -> None:
    """A stopped run goes on with the class offsets that it had found; each quarter of them could be begun with, and kept."""
    with as_file(files("faal_core") / "bundled/classifier.safetensors") as path:
        biased = read_classifier(path)
    with torch.no_grad():
        biased.backbone.linear.bias[3] -= 1
    training = SPEC.training.model_copy(update={"learning_rates": (0.01, 0.01), **BOUNDS})
    spec = SPEC.model_copy(update={"method": FaalMethod(), "training": training})
    undisturbed = train(biased, data, spec, device=CPU)
    first, second = Stages(2), Stages(0)
    with pytest.raises(Cancelled):
        train(biased, data, spec, device=CPU, checkpoint=tmp_path / "training.pt", progress=first)
    resumed = train(biased, data, spec, device=CPU, checkpoint=tmp_path / "training.pt", progress=second)
    assert first.names[0] == "class offsets" != second.names[0]
    assert undisturbed.class_offsets is not None
    assert undisturbed.class_offsets[3] == undisturbed.class_offsets.max()
    assert torch.equal(undisturbed.class_offsets, resumed.class_offsets)
    assert undisturbed.scaled_offsets == resumed.scaled_offsets
    assert [one.offset_scale for one in undisturbed.candidates.in_order if one.interpolation == 0] == [
        0,
        0.25,
        0.5,
        0.75,
        1,
    ]
    assert same_weights(undisturbed.classifier, resumed.classifier)


METHODS_IN_FULL = [
    FaalMethod(loss="trades", class_offsets=False),
    FaalMethod(loss="mart", divergence="chi-squared", class_offsets=False),
    UniformMethod(),
    DafaMethod(warmup_epochs=1),
    *(
        pytest.param(method, marks=pytest.mark.slow)
        for method in (FrlMethod(remargin_rate=0.2), CfaMethod(), WatMethod(), CfolMethod(rate=0.01))
    ),
]


@pytest.mark.parametrize("method", METHODS_IN_FULL, ids=str)
def test_every_method_resumes_bit_for_bit_from_anywhere(
    method: MethodSpec, data: LabelledImages, tmp_path: Path
) -> None:
    """Stopped ten times at random batches and taken up again each time, a run ends with an undisturbed run's weights and rows.

    With weight perturbation and averaging, whose state is kept as well; a checkpoint is written every third step.
    """
    training = SPEC.training.model_copy(
        update={
            "weight_perturbation": WeightPerturbation(weighted=True),
            "averaging": Averaging(decay=0.8),
            "schedule": "linear",
            "attack": TrainingAttack(steps=1),
        }
    )
    spec = SPEC.model_copy(update={"method": method, "training": training})
    undisturbed = train(fresh_classifier(), data, spec, device=CPU)
    drawn, checkpoint, stops = random.Random(str(method)), tmp_path / "training.pt", 0
    while stops < 10:
        try:
            progress = StopsAfter(drawn.randrange(1, 9))
            train(
                fresh_classifier(), data, spec, device=CPU, checkpoint=checkpoint, checkpoint_steps=3, progress=progress
            )
            break
        except Cancelled:
            stops += 1
    resumed = train(fresh_classifier(), data, spec, device=CPU, checkpoint=checkpoint, checkpoint_steps=3)
    assert stops >= 4
    assert same_weights(undisturbed.classifier, resumed.classifier)
    rows = [[row.model_copy(update={"seconds": 0}) for row in trained.epochs] for trained in (undisturbed, resumed)]
    assert rows[0] == rows[1]


def test_the_rate_may_go_straight_from_epoch_to_epoch() -> None:
    """With the linear schedule the first epoch rises from 0 and each ends at its own rate; else every step has it."""
    rates = (0.2, 0.1)
    linear, constant = (TrainingSpec(learning_rates=rates, schedule=name) for name in ("linear", "constant"))
    told = [linear.learning_rate(epoch, share) for epoch, share in ((0, 0.25), (0, 1.0), (1, 0.5), (1, 1.0))]
    assert told == pytest.approx([0.05, 0.2, 0.15, 0.1])
    assert constant.learning_rate(1, 0.5) == 0.1


def test_the_average_is_what_is_kept(data: LabelledImages) -> None:
    """An average that hardly moves keeps the classifier nearly as it came, though the weights themselves were trained."""
    kept = run(data, averaging=Averaging(decay=0.9999)).classifier
    plain = run(data).classifier
    start = fresh_classifier()
    moved = [
        max((a - b).abs().max().item() for a, b in zip(start.parameters(), trained.parameters(), strict=True))
        for trained in (kept, plain)
    ]
    assert 0 < moved[0] < 0.01 * moved[1]


def test_a_checkpoint_of_another_run_is_not_taken_up(
    data: LabelledImages, undisturbed: TrainingResult, tmp_path: Path
) -> None:
    """With another seed the run begins anew although a checkpoint lies there."""
    run(data, tmp_path / "training.pt", seed=1)
    assert same_weights(run(data, tmp_path / "training.pt").classifier, undisturbed.classifier)


@pytest.mark.parametrize("kept", [0, 1, 5000])
def test_a_damaged_checkpoint_costs_only_time(
    data: LabelledImages, undisturbed: TrainingResult, tmp_path: Path, kept: int
) -> None:
    """A file cut anywhere is as good as none: the run begins anew and ends like any other."""
    run(data, tmp_path / "training.pt")
    (tmp_path / "training.pt").write_bytes((tmp_path / "training.pt").read_bytes()[:kept])
    assert same_weights(run(data, tmp_path / "training.pt").classifier, undisturbed.classifier)


def test_a_full_disk_is_an_error_of_the_system(data: LabelledImages, tmp_path: Path) -> None:
    """Where a checkpoint cannot be written, OSError says so, and no part of a file is left."""
    (tmp_path / "training.partial").symlink_to("/dev/full")
    with pytest.raises(OSError, match=r"No space left|disk full"):
        run(data, tmp_path / "training.pt")
    assert not list(tmp_path.iterdir())


def test_dropout_follows_the_seed(data: LabelledImages) -> None:
    """A network that drops units at random gets the same weights each time, and the caller's generator is left alone."""

    def trained() -> Classifier:
        spec = ClassifierSpec(architecture="small_resnet", num_classes=10)
        torch.manual_seed(0)
        classifier = Classifier(nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(28 * 28, 10)), spec)
        torch.seed()
        before = torch.get_rng_state()
        weights = train(classifier, data, SPEC, device=CPU).classifier
        assert torch.equal(torch.get_rng_state(), before)
        return weights

    assert same_weights(trained(), trained())


@pytest.mark.parametrize("batch_size", [2, 10])
def test_the_loss_is_the_mean_of_all_images(data: LabelledImages, batch_size: int) -> None:
    """No image is left over, and none is a batch of its own: the mean of eleven is log 10 before any learning."""
    spec = ClassifierSpec(architecture="small_resnet", num_classes=10)
    linear = nn.Linear(28 * 28, 10)
    nn.init.zeros_(linear.weight)
    nn.init.zeros_(linear.bias)
    changes = {"validation_fraction": 0.0, "learning_rates": (1e-9,), "batch_size": batch_size}
    asked = SPEC.model_copy(
        update={
            "training": SPEC.training.model_copy(update=changes),
            "method": FaalMethod(dro_radius=0, class_offsets=False),
        }
    )
    few = data.take(data.stratified(11, 0))
    trained = train(Classifier(nn.Sequential(nn.Flatten(), linear), spec), few, asked, device=CPU)
    assert trained.epochs[0].loss == pytest.approx(2.302585, rel=1e-4)


def test_weights_spoilt_by_the_last_step_are_an_error(data: LabelledImages) -> None:
    """Where no image validates to notice it, weights that overflowed still raise TrainingDiverged."""
    with pytest.raises(TrainingDiverged):
        run(data, learning_rates=(float("inf"),), validation_fraction=0.0, batch_size=300)


def test_divergence_is_an_error(data: LabelledImages) -> None:
    """A loss that stops being a number raises TrainingDiverged."""
    with pytest.raises(TrainingDiverged, match="smaller learning rate"):
        run(data, learning_rates=(10.0,) * 3, momentum=0.999, weight_decay=1.0)


def test_keeps_the_epoch_that_did_best_on_validation_images(data: LabelledImages) -> None:
    """The selected epoch has the greatest validation mean plus worst; progress hears one row an epoch."""
    heard: list[BaseModel] = []

    class Listens(NoProgress):
        def record(self, row: BaseModel) -> None:
            heard.append(row)

    trained = run(data, progress=Listens())
    scores = [row.validation_robust + row.validation_robust_worst for row in trained.epochs]
    assert scores[trained.selected_epoch - 1] == max(scores)
    assert heard == list(trained.epochs)
    assert all(isinstance(row, EpochRow) for row in heard)


def test_dro_radius_zero_is_plain_adversarial_training(data: LabelledImages) -> None:
    """With dro_radius 0 every class keeps weight 1; with more the weights differ and still average 1."""
    uniform = SPEC.model_copy(update={"method": FaalMethod(dro_radius=0, class_offsets=False)})
    plain = train(fresh_classifier(), data, uniform, device=CPU)
    assert {weight for row in plain.epochs for weight in row.class_weights} == {1.0}
    fair = run(data)
    assert len(set(fair.epochs[0].class_weights)) > 1
    assert sum(fair.epochs[0].class_weights) == pytest.approx(10, rel=0.1)


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_what_is_returned_lies_that_far_from_the_given_weights(
    data: LabelledImages, monkeypatch: pytest.MonkeyPatch, share: float
) -> None:
    """Of a run whose validation selects that interpolation, the weights are so far on the way to those without a bound."""
    end = run(data)
    assert (end.candidates, end.selected, end.interpolation) == (None, None, 1.0)
    shares = [0, 0.25, 0.5, 0.75, 1]
    monkeypatch.setattr(recipe, "best_candidate", lambda candidates: candidates.in_order[shares.index(share)])
    kept = run(data, **BOUNDS)
    assert [one.interpolation for one in kept.candidates.in_order] == shares
    assert kept.interpolation == share
    given = fresh_classifier().state_dict()
    for name, value in kept.classifier.state_dict().items():
        if value.is_floating_point():
            target = end.classifier.state_dict()[name]
            assert torch.allclose(value, given[name] + share * (target - given[name]), atol=1e-6), name


def test_the_ends_of_the_way_are_judged_as_they_are(data: LabelledImages) -> None:
    """The candidate at 1 has the best epoch's validation rates, the one at 0 those of the given classifier."""
    trained = run(data, **BOUNDS)
    best = trained.epochs[trained.selected_epoch - 1]
    assert (trained.candidates.others[-1].robust, trained.candidates.others[-1].robust_worst) == (
        best.validation_robust,
        best.validation_robust_worst,
    )
    still = run(data, learning_rates=(1e-12,), **BOUNDS)
    assert trained.candidates.original.robust == pytest.approx(still.candidates.original.robust)
    assert trained.candidates.original.clean == pytest.approx(still.candidates.original.clean)


class EndsAfter(NoProgress):
    """Has a second left for each of so many steps."""

    def __init__(self, steps: int) -> None:
        self.left, self.steps = float(steps), False

    def stage(self, name: str, total: int) -> None:
        """Notes whether it is one of steps."""
        self.steps = name.startswith("epoch")

    def advance(self, count: int = 1) -> None:
        """One step less, if any image was in it."""
        self.left -= self.steps and count > 0

    def time_left(self) -> float:
        """A second a step."""
        return self.left


@pytest.mark.parametrize(
    ("steps", "reserve", "shares"),
    [(0, 0.0, [1 / 8]), (3, 0.0, [3 / 8]), (8, 0.0, [1]), (15, 4.0, [1, 3 / 8]), (1000, 0.0, [1, 1, 1])],
)
def test_training_ends_when_its_time_is_over(
    data: LabelledImages, steps: int, reserve: float, shares: list[float]
) -> None:
    """It makes a step at least, keeps back what is reserved, and says how much of an epoch, eight steps, was made."""
    trained = train(fresh_classifier(), data, SPEC, device=CPU, progress=EndsAfter(steps), reserve=reserve)
    assert [row.fraction for row in trained.epochs] == shares
    assert not same_weights(fresh_classifier(), trained.classifier)


def test_steps_of_an_epoch_that_was_begun_are_not_lost(data: LabelledImages, tmp_path: Path) -> None:
    """A run that was stopped in its second epoch and whose time is over when it goes on judges what it had made of it."""
    file = tmp_path / "training.pt"
    with pytest.raises(Cancelled):
        train(fresh_classifier(), data, SPEC, device=CPU, checkpoint=file, checkpoint_steps=1, progress=StopsIn(2))
    trained = train(
        fresh_classifier(), data, SPEC, device=CPU, checkpoint=file, checkpoint_steps=1, progress=EndsAfter(0)
    )
    assert [row.fraction for row in trained.epochs] == [1, 2 / 8]
