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
BOUNDS = {"max_robust_drop": 1.0, "max_clean_drop": 1.0}  # any fall is allowed, and candidates are measured


@pytest.fixture(scope="module")
def data() -> LabelledImages:
    """Return 300 training images, 30 a class."""
    train_part = load("fashion-mnist-subset", "train")
    return train_part.take(train_part.stratified(300, 0))


def fresh_classifier() -> Classifier:
    """Build the smallest network, always with the same weights."""
    torch.manual_seed(0)
    return build(ClassifierSpec(architecture="small_resnet", num_classes=10, arguments={"width": 8}))


def run(
    data: LabelledImages, checkpoint: Path | None = None, progress: Progress | None = None, **changes: object
) -> TrainingResult:
    """Train shortly and return the result."""
    spec = SPEC.model_copy(update={"training": SPEC.training.model_copy(update=changes)})
    return train(fresh_classifier(), data, spec, device=CPU, checkpoint=checkpoint, progress=progress)


@pytest.fixture(scope="module")
def reference_run(data: LabelledImages) -> TrainingResult:
    """Return the result of the short training without interruption."""
    return run(data)


class StopsAfter(NoProgress):
    """Progress that cancels the work after `batches` batches of training or of validation."""

    def __init__(self, batches: int) -> None:
        self.remaining = batches

    def advance(self, count: int = 1) -> None:
        """Count one batch, if it has any image."""
        self.remaining -= count > 0
        if self.remaining < 0:
            raise Cancelled


class StopsIn(NoProgress):
    """Progress that cancels the work in the middle of an epoch, as a kill would."""

    def __init__(self, epoch: int) -> None:
        self.epoch, self.running, self.count = epoch, 0, 0

    def stage(self, name: str, total: int) -> None:
        """Count the epochs."""
        self.running += name.startswith("epoch")
        self.count = 0

    def advance(self, count: int = 1) -> None:
        """Cancel at the second batch of the epoch."""
        self.count += 1
        if self.running == self.epoch and self.count == 2:
            raise Cancelled


class Listens(NoProgress):
    """Progress that collects the rows and counts the replayed ones."""

    def __init__(self) -> None:
        self.rows: list[BaseModel] = []
        self.replays = 0

    def record(self, row: BaseModel) -> None:
        """Add the row."""
        self.rows.append(row)

    def replay(self, row: BaseModel) -> None:
        """Add and count a row of an earlier run."""
        self.rows.append(row)
        self.replays += 1


def same_weights(one: Classifier, two: Classifier) -> bool:
    """Return whether all weights and statistics agree bit for bit."""
    return all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), two.state_dict().values(), strict=True))


def test_the_loss_falls(data: LabelledImages) -> None:
    """Training lowers the weighted adversarial loss and leaves the given classifier untouched."""
    classifier = fresh_classifier()
    result = train(classifier, data, SPEC, device=CPU)
    assert result.epochs[-1].loss < result.epochs[0].loss
    assert same_weights(classifier, fresh_classifier())
    assert not same_weights(classifier, result.classifier)
    assert result.validation_images == 60


@pytest.mark.parametrize("epoch", [1, 2, 3])
def test_resumes_bit_for_bit(data: LabelledImages, reference_run: TrainingResult, tmp_path: Path, epoch: int) -> None:
    """A run that stops in any epoch resumes to an uninterrupted run's weights and rows, and replays the earlier rows."""
    with pytest.raises(Cancelled):
        run(data, tmp_path / "training.pt", StopsIn(epoch))
    listens = Listens()
    continuation = run(data, tmp_path / "training.pt", listens)
    assert (tuple(listens.rows), listens.replays) == (tuple(continuation.epochs), epoch - 1)
    assert same_weights(reference_run.classifier, continuation.classifier)
    without_times = [
        [row.model_copy(update={"seconds": 0}) for row in result.epochs] for result in (reference_run, continuation)
    ]
    assert without_times[0] == without_times[1]


def test_a_checkpoint_of_another_format_is_not_resumed(
    data: LabelledImages, reference_run: TrainingResult, tmp_path: Path
) -> None:
    """A checkpoint that an older version wrote is ignored: the run starts again, and ends as an uninterrupted one."""
    path = tmp_path / "training.pt"
    with pytest.raises(Cancelled):
        run(data, path, StopsIn(2))
    content = torch.load(path, weights_only=True)
    torch.save({name: value for name, value in content.items() if name not in ("format", "head")}, path)
    listens = Listens()
    continuation = run(data, path, listens)
    assert listens.replays == 0
    assert same_weights(reference_run.classifier, continuation.classifier)


class Stages(StopsIn):
    """Progress that collects the names of the stages, and stops in that epoch."""

    def __init__(self, epoch: int) -> None:
        super().__init__(epoch)
        self.names: list[str] = []

    def stage(self, name: str, total: int) -> None:
        """Add the name, and count the epochs."""
        self.names.append(name)
        super().stage(name, total)


@pytest.mark.slow
def test_class_offsets_are_searched_once(data: LabelledImages, tmp_path: Path) -> None:
    """A stopped run resumes with its class offsets; each quarter of them is a start for training, and a candidate."""
    with as_file(files("faal_core") / "bundled/classifier.safetensors") as path:
        unfair = read_classifier(path)
    with torch.no_grad():
        unfair.backbone.linear.bias[3] -= 1
    training = SPEC.training.model_copy(update={"learning_rates": (0.01, 0.01), **BOUNDS})
    spec = SPEC.model_copy(update={"method": FaalMethod(), "training": training})
    reference_run = train(unfair, data, spec, device=CPU)
    first, second = Stages(2), Stages(0)
    with pytest.raises(Cancelled):
        train(unfair, data, spec, device=CPU, checkpoint=tmp_path / "training.pt", progress=first)
    continuation = train(unfair, data, spec, device=CPU, checkpoint=tmp_path / "training.pt", progress=second)
    assert first.names[0] == "class offsets" != second.names[0]
    assert reference_run.head.class_offsets is not None
    assert reference_run.head.class_offsets[3] == reference_run.head.class_offsets.max()
    assert torch.equal(reference_run.head.class_offsets, continuation.head.class_offsets)
    assert reference_run.scaled_offsets == continuation.scaled_offsets
    assert [one.offset_scale for one in reference_run.candidates.in_order if one.interpolation == 0] == [
        0,
        0.25,
        0.5,
        0.75,
        1,
    ]
    assert same_weights(reference_run.classifier, continuation.classifier)


METHODS_IN_FULL = [
    FaalMethod(loss="trades", class_offsets=False),
    UniformMethod(),
    DafaMethod(warmup_epochs=1),
    *(
        pytest.param(method, marks=pytest.mark.slow)
        for method in (
            FaalMethod(loss="mart", divergence="chi-squared", class_offsets=False),
            FrlMethod(remargin_rate=0.2),
            CfaMethod(),
            WatMethod(),
            CfolMethod(rate=0.01),
        )
    ),
]


@pytest.mark.parametrize("method", METHODS_IN_FULL, ids=str)
def test_every_method_resumes_bit_for_bit_from_anywhere(
    method: MethodSpec, data: LabelledImages, tmp_path: Path
) -> None:
    """A run that stops ten times at random batches, and resumes each time, ends with an uninterrupted run's weights and rows.

    It has weight perturbation and averaging, whose state is stored too, and writes a checkpoint every third step.
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
    reference_run = train(fresh_classifier(), data, spec, device=CPU)
    draws, checkpoint, stops = random.Random(str(method)), tmp_path / "training.pt", 0
    while stops < 10:
        try:
            progress = StopsAfter(draws.randrange(1, 9))
            train(
                fresh_classifier(), data, spec, device=CPU, checkpoint=checkpoint, checkpoint_steps=3, progress=progress
            )
            break
        except Cancelled:
            stops += 1
    continuation = train(fresh_classifier(), data, spec, device=CPU, checkpoint=checkpoint, checkpoint_steps=3)
    assert stops >= 4
    assert same_weights(reference_run.classifier, continuation.classifier)
    rows = [
        [row.model_copy(update={"seconds": 0}) for row in result.epochs] for result in (reference_run, continuation)
    ]
    assert rows[0] == rows[1]


def test_the_rate_may_go_straight_from_epoch_to_epoch() -> None:
    """The linear schedule rises from 0 and reaches each epoch's rate at its end; the constant one has that rate at every step."""
    rates = (0.2, 0.1)
    linear, constant = (TrainingSpec(learning_rates=rates, schedule=name) for name in ("linear", "constant"))
    step_rates = [linear.learning_rate(epoch, share) for epoch, share in ((0, 0.25), (0, 1.0), (1, 0.5), (1, 1.0))]
    assert step_rates == pytest.approx([0.05, 0.2, 0.15, 0.1])
    assert constant.learning_rate(1, 0.5) == 0.1


def test_averaging_keeps_the_average(data: LabelledImages) -> None:
    """A slow average returns weights near the given ones, although training moves the weights further."""
    average = run(data, averaging=Averaging(decay=0.9999)).classifier
    plain = run(data).classifier
    start = fresh_classifier()
    distances = [
        max((a - b).abs().max().item() for a, b in zip(start.parameters(), result.parameters(), strict=True))
        for result in (average, plain)
    ]
    assert 0 < distances[0] < 0.01 * distances[1]


def test_a_checkpoint_of_another_run_is_not_used(
    data: LabelledImages, reference_run: TrainingResult, tmp_path: Path
) -> None:
    """A run with another seed starts from scratch although a checkpoint exists."""
    run(data, tmp_path / "training.pt", seed=1)
    assert same_weights(run(data, tmp_path / "training.pt").classifier, reference_run.classifier)


@pytest.mark.parametrize("length", [0, 1, 5000])
def test_a_damaged_checkpoint_costs_only_time(
    data: LabelledImages, reference_run: TrainingResult, tmp_path: Path, length: int
) -> None:
    """A run with a truncated checkpoint starts from scratch and gives the usual result."""
    run(data, tmp_path / "training.pt")
    (tmp_path / "training.pt").write_bytes((tmp_path / "training.pt").read_bytes()[:length])
    assert same_weights(run(data, tmp_path / "training.pt").classifier, reference_run.classifier)


def test_a_full_disk_is_an_error_of_the_system(data: LabelledImages, tmp_path: Path) -> None:
    """A checkpoint that cannot be written raises OSError, and no part of a file remains."""
    (tmp_path / "training.partial").symlink_to("/dev/full")
    with pytest.raises(OSError, match=r"No space left|disk full"):
        run(data, tmp_path / "training.pt")
    assert not list(tmp_path.iterdir())


def test_dropout_follows_the_seed(data: LabelledImages) -> None:
    """A network with dropout gets the same weights each time, and the caller's generator does not change."""

    def train_with_dropout() -> Classifier:
        spec = ClassifierSpec(architecture="small_resnet", num_classes=10)
        torch.manual_seed(0)
        classifier = Classifier(nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(28 * 28, 10)), spec)
        torch.seed()
        before = torch.get_rng_state()
        weights = train(classifier, data, SPEC, device=CPU).classifier
        assert torch.equal(torch.get_rng_state(), before)
        return weights

    assert same_weights(train_with_dropout(), train_with_dropout())


@pytest.mark.parametrize("batch_size", [2, 10])
def test_the_loss_is_the_mean_of_all_images(data: LabelledImages, batch_size: int) -> None:
    """The loss averages all eleven images, with any batch size: it is log 10 before any learning."""
    spec = ClassifierSpec(architecture="small_resnet", num_classes=10)
    linear = nn.Linear(28 * 28, 10)
    nn.init.zeros_(linear.weight)
    nn.init.zeros_(linear.bias)
    changes = {"validation_fraction": 0.0, "learning_rates": (1e-9,), "batch_size": batch_size}
    finetune_spec = SPEC.model_copy(
        update={
            "training": SPEC.training.model_copy(update=changes),
            "method": FaalMethod(dro_radius=0, class_offsets=False),
        }
    )
    few = data.take(data.stratified(11, 0))
    result = train(Classifier(nn.Sequential(nn.Flatten(), linear), spec), few, finetune_spec, device=CPU)
    assert result.epochs[0].loss == pytest.approx(2.302585, rel=1e-4)


def test_weights_spoilt_by_the_last_step_are_an_error(data: LabelledImages) -> None:
    """Weights that overflow in the last step raise TrainingDiverged, also without validation images."""
    with pytest.raises(TrainingDiverged):
        run(data, learning_rates=(float("inf"),), validation_fraction=0.0, batch_size=300)


def test_divergence_is_an_error(data: LabelledImages) -> None:
    """A loss of NaN raises TrainingDiverged."""
    with pytest.raises(TrainingDiverged, match="smaller learning rate"):
        run(data, learning_rates=(10.0,) * 3, momentum=0.999, weight_decay=1.0)


def test_keeps_the_epoch_that_did_best_on_validation_images(data: LabelledImages) -> None:
    """The selected epoch has the greatest sum of validation mean and worst class; progress records one row an epoch."""
    records: list[BaseModel] = []

    class Listens(NoProgress):
        def record(self, row: BaseModel) -> None:
            records.append(row)

    result = run(data, progress=Listens())
    scores = [row.validation_robust + row.validation_robust_worst for row in result.epochs]
    assert scores[result.selected_epoch - 1] == max(scores)
    assert records == list(result.epochs)
    assert all(isinstance(row, EpochRow) for row in records)


def test_dro_radius_zero_is_plain_adversarial_training(data: LabelledImages) -> None:
    """With dro_radius 0 every class has weight 1; with a larger one the weights differ and average 1."""
    uniform = SPEC.model_copy(update={"method": FaalMethod(dro_radius=0, class_offsets=False)})
    plain = train(fresh_classifier(), data, uniform, device=CPU)
    assert {weight for row in plain.epochs for weight in row.class_weights} == {1.0}
    fair = run(data)
    assert len(set(fair.epochs[0].class_weights)) > 1
    assert sum(fair.epochs[0].class_weights) == pytest.approx(10, rel=0.1)


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_the_weights_are_at_the_selected_interpolation(
    data: LabelledImages, monkeypatch: pytest.MonkeyPatch, share: float
) -> None:
    """A run returns the weights at the selected interpolation between the given ones and those without a bound."""
    end = run(data)
    assert (end.candidates, end.selected, end.interpolation) == (None, None, 1.0)
    shares = [0, 0.25, 0.5, 0.75, 1]
    monkeypatch.setattr(recipe, "best_candidate", lambda candidates: candidates.in_order[shares.index(share)])
    selection = run(data, **BOUNDS)
    assert [one.interpolation for one in selection.candidates.in_order] == shares
    assert selection.interpolation == share
    start = fresh_classifier().state_dict()
    for name, value in selection.classifier.state_dict().items():
        if value.is_floating_point():
            target = end.classifier.state_dict()[name]
            assert torch.allclose(value, start[name] + share * (target - start[name]), atol=1e-6), name


def test_the_ends_of_the_interpolation_have_their_own_accuracies(data: LabelledImages) -> None:
    """The candidate at 1 has the best epoch's validation rates, and the one at 0 those of the given classifier."""
    result = run(data, **BOUNDS)
    best = result.epochs[result.selected_epoch - 1]
    assert (result.candidates.others[-1].robust, result.candidates.others[-1].robust_worst) == (
        best.validation_robust,
        best.validation_robust_worst,
    )
    still = run(data, learning_rates=(1e-12,), **BOUNDS)
    assert result.candidates.original.robust == pytest.approx(still.candidates.original.robust)
    assert result.candidates.original.clean == pytest.approx(still.candidates.original.clean)


class EndsAfter(NoProgress):
    """Progress with one second left for each of `steps` steps."""

    def __init__(self, steps: int) -> None:
        self.remaining, self.steps = float(steps), False

    def stage(self, name: str, total: int) -> None:
        """Check whether the stage has training steps."""
        self.steps = name.startswith("epoch")

    def advance(self, count: int = 1) -> None:
        """Count one training step, if it has any image."""
        self.remaining -= self.steps and count > 0

    def time_left(self) -> float:
        """Return one second for each step."""
        return self.remaining


@pytest.mark.parametrize(
    ("steps", "reserve", "shares"),
    [(0, 0.0, [1 / 8]), (3, 0.0, [3 / 8]), (8, 0.0, [1]), (15, 4.0, [1, 3 / 8]), (1000, 0.0, [1, 1, 1])],
)
def test_training_ends_when_its_time_is_over(
    data: LabelledImages, steps: int, reserve: float, shares: list[float]
) -> None:
    """Training makes at least one step, keeps the reserve, and reports the fraction of the epoch, eight steps."""
    result = train(fresh_classifier(), data, SPEC, device=CPU, progress=EndsAfter(steps), reserve=reserve)
    assert [row.fraction for row in result.epochs] == shares
    assert not same_weights(fresh_classifier(), result.classifier)


def test_steps_of_an_unfinished_epoch_are_not_lost(data: LabelledImages, tmp_path: Path) -> None:
    """A run that stops in its second epoch, and has no time left when it resumes, keeps the fraction of that epoch."""
    file = tmp_path / "training.pt"
    with pytest.raises(Cancelled):
        train(fresh_classifier(), data, SPEC, device=CPU, checkpoint=file, checkpoint_steps=1, progress=StopsIn(2))
    result = train(
        fresh_classifier(), data, SPEC, device=CPU, checkpoint=file, checkpoint_steps=1, progress=EndsAfter(0)
    )
    assert [row.fraction for row in result.epochs] == [1, 2 / 8]
