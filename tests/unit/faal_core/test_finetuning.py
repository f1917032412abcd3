"""Test a whole fine-tuning on a few bundled images."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from pydantic import BaseModel
from torch import Tensor, nn

import faal_core
from faal_core import weights
from faal_core.classifier import Classifier
from faal_core.datasets import LabelledImages, load
from faal_core.errors import ClassifierUnsuitable, InvalidSpec, OutOfTime, WeightsMismatch
from faal_core.finetuning import FinetuneResult
from faal_core.finetuning.run import run_finetuning
from faal_core.networks import build
from faal_core.progress import Cancelled, NoProgress
from faal_core.reports import text
from faal_core.results.course import FinetuneCourse
from faal_core.results.documents import ReliabilityWarning
from faal_core.results.finetune_documents import FinetuneReport
from faal_core.results.reading import read_report
from faal_core.specs import (
    AuditSettings,
    ClassifierSpec,
    FaalMethod,
    FinetuneSpec,
    HwnwbMethod,
    MethodSpec,
    PgdSpec,
    TrainingAttack,
    TrainingSpec,
)
from faal_core.threat_model import ThreatModel
from faal_core.training.candidates import candidate_classifier
from faal_core.training.rehearsal import rehearse
from faal_core.training.row_split import split_rows
from faal_core.training.validation import validate
from faal_core.weights import read_classifier
from tests.training_runs import training_run

CPU = torch.device("cpu")
SPEC = FinetuneSpec(
    threat=ThreatModel(epsilon=0.1),
    training=TrainingSpec(
        learning_rates=(0.1, 0.05),
        attack=TrainingAttack(steps=2),
        batch_size=32,
        max_robust_drop=None,
        max_clean_drop=None,
    ),
    audit=AuditSettings(attacks=(PgdSpec(steps=3),), images=100),
)
BOUNDED = SPEC.model_copy(update={"training": SPEC.training.model_copy(update={"max_robust_drop": 1.0})})


def random_classifier() -> Classifier:
    """Build the smallest network, always with the same weights."""
    torch.manual_seed(0)
    return build(ClassifierSpec(architecture="small_resnet", num_classes=10, arguments={"width": 8}))


def finetune_random_network(
    checkpoint: Path | None = None, progress: NoProgress | None = None, spec: FinetuneSpec = SPEC
) -> FinetuneResult:
    """Run the same short fine-tuning of the same random network."""
    training_data, test_data = load("fashion-mnist-subset", "train"), load("fashion-mnist-subset", "test")
    training_data = training_data.take(training_data.stratified(300, 0))
    return run_finetuning(
        random_classifier(),
        training_data,
        test_data,
        spec,
        name="tiny",
        device=CPU,
        checkpoint=checkpoint,
        progress=progress,
    )


def run(checkpoint: Path | None = None, progress: NoProgress | None = None) -> FinetuneReport:
    """Run the short fine-tuning and return its report."""
    return finetune_random_network(checkpoint, progress).report


DIFFERENT = ("seconds", "created_at", "resumed")


def without_times(document: object) -> object:
    """Return the document without the fields in which two runs may differ."""
    if isinstance(document, dict):
        return {key: without_times(value) for key, value in document.items() if key not in DIFFERENT}
    return [without_times(part) for part in document] if isinstance(document, list) else document


class StopsAfter(NoProgress):
    """Progress that cancels the work at its n-th advance."""

    def __init__(self, count: int) -> None:
        self.remaining = count

    def advance(self, count: int = 1) -> None:
        """Count an advance, and cancel at the last one."""
        self.remaining -= 1
        if not self.remaining:
            raise Cancelled


class Follows(NoProgress):
    """Progress that follows the course of a fine-tuning."""

    def __init__(self, course: FinetuneCourse) -> None:
        self.course, self.fractions, self.stages = course, [0.0], [""]
        self.done, self.total = 0, 1

    def stage(self, name: str, total: int) -> None:
        """Begin a stage of the course."""
        self.stages.append(name)
        self.done, self.total = 0, total
        self.course.begin(name)

    def advance(self, count: int = 1) -> None:
        """Keep the fraction of the course."""
        self.done += count
        self.fractions.append(self.course.fraction(self.done / max(self.total, 1)))


def test_the_course_knows_the_stages() -> None:
    """The stages of a real fine-tuning advance its course from the start to the end, each by its own part."""
    progress = Follows(FinetuneCourse(BOUNDED, 300, 3000, 10))
    finetuned = finetune_random_network(progress=progress, spec=BOUNDED)
    known = {"rehearsal of a step", "class offsets", "search for class offsets", "epoch 1 of 2", "epoch 2 of 2"}
    known |= {f"{part}: {name}" for part in ("before", "after") for name in ("clean", "PGD-3 (cross-entropy)")}
    assert {stage for stage in progress.stages if stage and not stage.startswith("validation: ")} <= known
    assert "validation: clean" in progress.stages
    assert progress.fractions == sorted(progress.fractions)
    assert len(set(progress.fractions)) > 20
    end = progress.fractions[-1]
    assert end == pytest.approx(1) if finetuned.report.outcome != "kept-original" else 0.5 < end <= 1


def test_report_is_consistent_and_survives_json() -> None:
    """Both audits have the same images, the comparison's counts explain their difference, and JSON restores the report.

    Weights without class names get those of the data.
    """
    report = run()
    assert report.before.dataset == report.after.dataset
    assert report.before.classifier.sha256 != report.after.classifier.sha256
    for before, after, change in zip(report.before.classes, report.after.classes, report.robust.classes, strict=True):
        assert after.robust.count - before.robust.count == change.gained - change.lost
        assert (change.before, change.after) == (before.robust.rate, after.robust.rate)
    assert report.validation_images == 30
    assert report.before.classifier.spec.class_names is None
    assert report.after.classifier.spec.class_names == report.training_dataset.class_names
    assert read_report(report.model_dump_json()) == report


@pytest.mark.parametrize(
    "advances", [1, pytest.param(5, marks=pytest.mark.slow), 14, pytest.param(25, marks=pytest.mark.slow)]
)
def test_a_stopped_finetuning_resumes_to_the_same_report(tmp_path: Path, advances: int) -> None:
    """A fine-tuning that stops anywhere and resumes from its checkpoint gives an uninterrupted run's report, except times."""
    with pytest.raises(Cancelled):
        run(tmp_path, StopsAfter(advances))
    continuation, reference = run(tmp_path), run()
    assert without_times(continuation.model_dump(mode="json")) == without_times(reference.model_dump(mode="json"))


def test_training_and_test_part_must_have_the_same_classes() -> None:
    """Different class names in the two parts are refused before any computation."""
    data = load("fashion-mnist-subset", "test")
    other_names = data.take(torch.arange(len(data)))
    object.__setattr__(other_names, "class_names", tuple(f"class {c}" for c in range(10)))
    classifier = build(ClassifierSpec(architecture="small_resnet", num_classes=10))
    with pytest.raises(InvalidSpec, match="other classes"):
        run_finetuning(classifier, other_names, data, SPEC, name="x", device=CPU)


def test_a_class_without_training_images_is_refused() -> None:
    """A class without training images, which training would unlearn, is refused by name before any computation."""
    data = load("fashion-mnist-subset", "test")
    without_bags = data.take((data.labels != data.class_names.index("Bag")).nonzero().squeeze(1))
    classifier = build(ClassifierSpec(architecture="small_resnet", num_classes=10))
    with pytest.raises(InvalidSpec, match="no training images of 'Bag'"):
        run_finetuning(classifier, without_bags, data, SPEC, name="x", device=CPU)


def test_training_and_test_images_must_have_one_size() -> None:
    """Training images of another size are refused before any computation, because a network may not accept both."""
    data = load("fashion-mnist-subset", "test")
    smaller = LabelledImages(data.images[:, :, 2:-2, 2:-2], data.labels, data.class_names, data.name, "train")
    classifier = build(ClassifierSpec(architecture="small_resnet", num_classes=10))
    with pytest.raises(InvalidSpec, match="another size"):
        run_finetuning(classifier, smaller, data, SPEC, name="x", device=CPU)


class EndsIn(NoProgress):
    """Progress whose time is over as soon as that stage begins."""

    def __init__(self, stage: str) -> None:
        self.ending_stage, self.is_over = stage, False

    def stage(self, name: str, total: int) -> None:
        """Compare the stage's name."""
        self.is_over |= name.startswith(self.ending_stage)

    def time_left(self) -> float:
        """Return 0 seconds after the stage began, and a day before."""
        return 0.0 if self.is_over else 86_400.0


def test_a_finetuning_whose_time_is_over_finishes_its_second_audit() -> None:
    """Training ends early when the time is over, and both audits are still complete."""
    report = run(progress=EndsIn("epoch 1"))
    assert [row.fraction < 1 for row in report.epochs] == [True]
    assert report.before.complete
    assert report.after.complete


@pytest.mark.parametrize("stage", ["before: clean", "before: PGD"])
def test_a_finetuning_without_time_to_train_is_an_error(stage: str) -> None:
    """If the first audit takes all the time, an error says that there was no time to train."""
    with pytest.raises(OutOfTime, match="no time to train"):
        run(progress=EndsIn(stage))


def test_a_change_of_the_last_layer_needs_time_too() -> None:
    """If the first audit takes all the time, an error says so for a method without training, too."""
    spec = BOUNDED.model_copy(update={"method": HwnwbMethod()})
    with pytest.raises(OutOfTime, match="The audits and the choice of the last layer take"):
        finetune_random_network(progress=EndsIn("before: PGD"), spec=spec)


class OtherInTraining(nn.Module):
    """A network with one more logit in training."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        """Return the inner network's logits, and in training a further one."""
        logits = self.inner(x)
        return torch.cat([logits, logits[:, :1]], 1) if self.training else logits


class NoAudit(NoProgress):
    """Progress that fails when an audit begins."""

    def stage(self, name: str, total: int) -> None:
        """Allow only the rehearsal."""
        assert name == "rehearsal of a step"


def test_errors_of_the_training_are_raised_before_the_first_audit() -> None:
    """A class with too few images for validation, and a network with other outputs in training, are refused at once."""
    training_data, test_data = load("fashion-mnist-subset", "train"), load("fashion-mnist-subset", "test")
    others, trousers = (
        (training_data.labels != 1).nonzero().squeeze(1),
        (training_data.labels == 1).nonzero().squeeze(1),
    )
    scarce = training_data.take(torch.cat([others, trousers[:1]]))
    classifier = build(ClassifierSpec(architecture="small_resnet", num_classes=10, arguments={"width": 8}))
    with pytest.raises(InvalidSpec, match="one training image"):
        run_finetuning(classifier, scarce, test_data, SPEC, name="x", device=CPU, progress=NoAudit())
    classifier.backbone = OtherInTraining(classifier.backbone)
    with pytest.raises(ClassifierUnsuitable, match="In training mode the network returns"):
        run_finetuning(classifier, training_data, test_data, SPEC, name="x", device=CPU, progress=NoAudit())


@pytest.mark.parametrize("batch_size", [4, 32])
def test_sorted_images_can_be_rehearsed(batch_size: int) -> None:
    """The rehearsal succeeds on images in the order of their classes, and with batches smaller than the number of classes."""
    data = load("fashion-mnist-subset", "train")
    data = data.take(data.stratified(300, 0))
    data = data.take(data.labels.argsort())
    spec = SPEC.model_copy(update={"training": SPEC.training.model_copy(update={"batch_size": batch_size})})
    rehearse(
        build(ClassifierSpec(architecture="small_resnet", num_classes=10, arguments={"width": 8})), data, spec, CPU
    )


def test_a_shortened_training_stays_short(tmp_path: Path) -> None:
    """A run that trained for less than an epoch, and resumes in its second audit with enough time, trains no further."""

    class EndsLater(EndsIn):
        def stage(self, name: str, total: int) -> None:
            super().stage(name, total)
            if name.startswith("after"):
                raise Cancelled

    with pytest.raises(Cancelled):
        run(tmp_path, EndsLater("epoch 1"))
    continuation = run(tmp_path)
    assert [row.fraction < 1 for row in continuation.epochs] == [True]


def test_where_no_worst_class_is_better_the_original_is_kept() -> None:
    """If no candidate improves a worst class of 0, the report keeps the given weights, says so, and has no second audit."""
    result = finetune_random_network(spec=BOUNDED)
    report = result.report
    assert max(one.robust_worst for one in report.candidates) == 0
    assert (report.outcome, report.selected_candidate) == ("kept-original", 0)
    assert report.after == report.before
    assert weights.digest(result.classifier) == report.before.classifier.sha256
    assert report.falls == []
    first, *_ = text.verdict(report)
    assert first.startswith("The original weights are kept: of 4 other candidates, none within the bounds")
    assert text.tone(report) == "neutral"


@pytest.mark.parametrize("method", [FaalMethod(), HwnwbMethod()], ids=str)
def test_every_candidate_can_be_made_from_both_ends(method: MethodSpec) -> None:
    """Each candidate's weights have the validation accuracies in the report; the last one has the trained weights.

    Without training, the trained weights are those that were kept.
    """
    spec = BOUNDED.model_copy(update={"method": method})
    result = finetune_random_network(spec=spec)
    data = load("fashion-mnist-subset", "train")
    data = data.take(data.stratified(300, 0))
    rows = split_rows(data, BOUNDED.training.validation_fraction, BOUNDED.training.seed)
    run = replace(training_run(BOUNDED, data), rows=rows)
    for number, one in enumerate(result.report.candidates):
        candidate = candidate_classifier(random_classifier(), result.trained_classifier, result.report, number)
        accuracy = validate(candidate, run)
        assert (accuracy.clean_mean, accuracy.robust_mean) == pytest.approx((one.clean, one.robust), abs=1e-9)
        assert candidate.spec.class_names == data.class_names
    assert (weights.digest(candidate) == weights.digest(result.trained_classifier)) == (spec.epochs > 0)


def test_only_candidates_of_the_report_can_be_made() -> None:
    """A number without a candidate, and weights that were not fine-tuned, are refused."""
    result = finetune_random_network(spec=BOUNDED)
    for number in (-1, 5):
        with pytest.raises(InvalidSpec, match="5 candidates, numbered from 0"):
            candidate_classifier(random_classifier(), result.trained_classifier, result.report, number)
    with pytest.raises(WeightsMismatch, match="not the weights that were fine-tuned"):
        candidate_classifier(result.trained_classifier, result.trained_classifier, result.report, 1)
    with pytest.raises(WeightsMismatch, match="another run has replaced them"):
        candidate_classifier(random_classifier(), random_classifier(), result.report, 1)


def test_a_classifier_without_robustness_raises_a_warning_before_the_training() -> None:
    """Robust accuracy near zero raises a warning before the first epoch, and the report has it."""
    rows: list[str] = []

    class Notes(NoProgress):
        def record(self, row: BaseModel) -> None:
            rows.append(row.code if isinstance(row, ReliabilityWarning) else type(row).__name__)

    result = finetune_random_network(progress=Notes())
    assert result.report.before.robust.mean.rate < 0.05
    assert rows.index("base-not-robust") < rows.index("EpochRow")
    assert [warning.code for warning in result.report.warnings] == ["base-not-robust"]
    assert ("", result.report.warnings[0]) in text.warnings(result.report)


def test_a_classifier_that_guesses_raises_a_warning_too() -> None:
    """A classifier with a constant answer, whose robust accuracy is 10 % as by guessing, raises the same warning."""
    data = load("fashion-mnist-subset", "train")
    data = data.take(data.stratified(300, 0))
    constant = random_classifier()
    with torch.no_grad():
        constant.backbone.linear.weight.zero_()
        constant.backbone.linear.bias.copy_(torch.arange(10.0))
    test_data = load("fashion-mnist-subset", "test")
    spec = SPEC.model_copy(update={"audit": SPEC.audit.model_copy(update={"escalate": False})})
    result = run_finetuning(constant, data, test_data, spec, name="constant", device=CPU)
    assert result.report.before.robust.mean.rate == pytest.approx(0.1)
    assert [warning.code for warning in result.report.warnings] == ["base-not-robust"]


def test_a_warning_that_the_new_weights_refute_is_not_reported() -> None:
    """A robust classifier whose last bias was disturbed guesses; the training corrects that, so the report does not warn."""
    data = load("fashion-mnist-subset", "train")
    disturbed = read_classifier(Path(faal_core.__file__).parent / "bundled/classifier.safetensors")
    with torch.no_grad():
        disturbed.backbone.linear.bias[0] += 13
    spec = SPEC.model_copy(update={"training": SPEC.training.model_copy(update={"learning_rates": (0.1,)})})
    data, test_data = data.take(data.stratified(300, 0)), load("fashion-mnist-subset", "test")
    report = run_finetuning(disturbed, data, test_data, spec, name="disturbed", device=CPU).report
    assert report.before.robust.mean.rate == pytest.approx(0.1)
    assert report.after.robust.mean.rate > 0.15
    assert report.warnings == ()


def test_fine_tuned_weights_carry_the_class_names() -> None:
    """A fine-tuned classifier without class names gets those of its training images."""
    result = finetune_random_network()
    assert result.report.before.classifier.spec.class_names is None
    assert (
        result.classifier.spec.class_names
        == result.trained_classifier.spec.class_names
        == result.report.after.dataset.class_names
    )
