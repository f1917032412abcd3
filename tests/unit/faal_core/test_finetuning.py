"""The whole repair on a few bundled images."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from pydantic import BaseModel
from torch import Tensor, nn

from faal_core import weights
from faal_core.classifier import Classifier
from faal_core.datasets import LabelledImages, load
from faal_core.errors import ClassifierUnsuitable, InvalidSpec, OutOfTime, WeightsMismatch
from faal_core.finetuning import FinetuneResult, finetune
from faal_core.networks import build
from faal_core.progress import Cancelled, NoProgress
from faal_core.reports import text
from faal_core.results.documents import ReliabilityWarning
from faal_core.results.finetune_documents import FinetuneReport
from faal_core.results.reading import read_report
from faal_core.specs import AuditSettings, ClassifierSpec, FinetuneSpec, PgdSpec, TrainingAttack, TrainingSpec
from faal_core.threat_model import ThreatModel
from faal_core.training.candidates import candidate_classifier
from faal_core.training.rehearsal import rehearse
from faal_core.training.row_split import split_rows
from faal_core.training.validation import validate
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
    """The smallest network, always with the same weights."""
    torch.manual_seed(0)
    return build(ClassifierSpec(architecture="small_resnet", num_classes=10, arguments={"width": 8}))


def finetuned(
    checkpoint: Path | None = None, progress: NoProgress | None = None, spec: FinetuneSpec = SPEC
) -> FinetuneResult:
    """The same short fine-tuning of the same random network, each time."""
    training_data, test_data = load("fashion-mnist-subset", "train"), load("fashion-mnist-subset", "test")
    training_data = training_data.take(training_data.stratified(300, 0))
    return finetune(
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
    """Its report."""
    return finetuned(checkpoint, progress).report


def without_times(document: object) -> object:
    """The document less the fields in which two runs may differ."""
    if isinstance(document, dict):
        return {key: without_times(value) for key, value in document.items() if key not in ("seconds", "created_at")}
    return [without_times(part) for part in document] if isinstance(document, list) else document


class StopsAfter(NoProgress):
    """Calls the work off at its n-th advance."""

    def __init__(self, count: int) -> None:
        self.left = count

    def advance(self, count: int = 1) -> None:
        """Stops when none is left."""
        self.left -= 1
        if not self.left:
            raise Cancelled


def test_report_is_consistent_and_survives_json() -> None:
    """Both audits judge the same images, the comparison's counts explain their difference, and JSON gives it back.

    Weights that had no class names have those of the data afterwards.
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
def test_a_stopped_repair_goes_on_to_the_same_report(tmp_path: Path, advances: int) -> None:
    """Stopped anywhere and started again on its checkpoint, it gives the report of an undisturbed run, times apart."""
    with pytest.raises(Cancelled):
        run(tmp_path, StopsAfter(advances))
    resumed, undisturbed = run(tmp_path), run()
    assert without_times(resumed.model_dump(mode="json")) == without_times(undisturbed.model_dump(mode="json"))


def test_training_and_test_part_must_have_the_same_classes() -> None:
    """Other class names in the two parts are refused before any work."""
    data = load("fashion-mnist-subset", "test")
    renamed = data.take(torch.arange(len(data)))
    object.__setattr__(renamed, "class_names", tuple(f"class {c}" for c in range(10)))
    classifier = build(ClassifierSpec(architecture="small_resnet", num_classes=10))
    with pytest.raises(InvalidSpec, match="other classes"):
        finetune(classifier, renamed, data, SPEC, name="x", device=CPU)


def test_a_class_without_training_images_is_refused() -> None:
    """Training on the other classes would unlearn it: the class is named before any work."""
    data = load("fashion-mnist-subset", "test")
    without_bags = data.take((data.labels != data.class_names.index("Bag")).nonzero().squeeze(1))
    classifier = build(ClassifierSpec(architecture="small_resnet", num_classes=10))
    with pytest.raises(InvalidSpec, match="no training images of 'Bag'"):
        finetune(classifier, without_bags, data, SPEC, name="x", device=CPU)


def test_training_and_test_images_must_have_one_size() -> None:
    """Training images of another size are refused before any work, since no network need take both."""
    data = load("fashion-mnist-subset", "test")
    smaller = LabelledImages(data.images[:, :, 2:-2, 2:-2], data.labels, data.class_names, data.name, "train")
    classifier = build(ClassifierSpec(architecture="small_resnet", num_classes=10))
    with pytest.raises(InvalidSpec, match="another size"):
        finetune(classifier, smaller, data, SPEC, name="x", device=CPU)


class Due(NoProgress):
    """The time is over as soon as a stage begins that is named so."""

    def __init__(self, stage: str) -> None:
        self.over_in, self.over = stage, False

    def stage(self, name: str, total: int) -> None:
        """Looks whether it is that one."""
        self.over |= name.startswith(self.over_in)

    def time_left(self) -> float:
        """None, or a day."""
        return 0.0 if self.over else 86_400.0


def test_a_repair_whose_time_is_over_finishes_its_second_audit() -> None:
    """Training ends early then, and both audits are complete all the same."""
    report = run(progress=Due("epoch 1"))
    assert [row.fraction < 1 for row in report.epochs] == [True]
    assert report.before.complete
    assert report.after.complete


@pytest.mark.parametrize("stage", ["before: clean", "before: PGD"])
def test_a_repair_without_time_to_train_is_none(stage: str) -> None:
    """Where the first audit takes all the time there is nothing to compare, and that is said."""
    with pytest.raises(OutOfTime, match="no time to train"):
        run(progress=Due(stage))


class OtherInTraining(nn.Module):
    """Answers with one logit more while it is trained."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        """The inner network's logits, and in training a further one."""
        logits = self.inner(x)
        return torch.cat([logits, logits[:, :1]], 1) if self.training else logits


class NoAudit(NoProgress):
    """Fails when an audit begins."""

    def stage(self, name: str, total: int) -> None:
        """The rehearsal, and nothing else."""
        assert name == "rehearsal of a step"


def test_what_would_stop_the_training_stops_it_before_the_first_audit() -> None:
    """A class with too few images for validation, and a network with other outputs in training, are refused at once."""
    training_data, test_data = load("fashion-mnist-subset", "train"), load("fashion-mnist-subset", "test")
    others, trousers = (
        (training_data.labels != 1).nonzero().squeeze(1),
        (training_data.labels == 1).nonzero().squeeze(1),
    )
    scarce = training_data.take(torch.cat([others, trousers[:1]]))
    classifier = build(ClassifierSpec(architecture="small_resnet", num_classes=10, arguments={"width": 8}))
    with pytest.raises(InvalidSpec, match="one training image"):
        finetune(classifier, scarce, test_data, SPEC, name="x", device=CPU, progress=NoAudit())
    classifier.backbone = OtherInTraining(classifier.backbone)
    with pytest.raises(ClassifierUnsuitable, match="In training mode the network returns"):
        finetune(classifier, training_data, test_data, SPEC, name="x", device=CPU, progress=NoAudit())


@pytest.mark.parametrize("batch_size", [4, 32])
def test_sorted_images_can_be_rehearsed(batch_size: int) -> None:
    """Images in the order of their classes, as in folders, and batches smaller than the number of classes do no harm."""
    data = load("fashion-mnist-subset", "train")
    data = data.take(data.stratified(300, 0))
    data = data.take(data.labels.argsort())
    spec = SPEC.model_copy(update={"training": SPEC.training.model_copy(update={"batch_size": batch_size})})
    rehearse(
        build(ClassifierSpec(architecture="small_resnet", num_classes=10, arguments={"width": 8})), data, spec, CPU
    )


def test_a_repair_that_was_cut_stays_so(tmp_path: Path) -> None:
    """Called off in its second audit and begun again with time enough, it ends with the training that there was time for."""

    class EndsLater(Due):
        def stage(self, name: str, total: int) -> None:
            super().stage(name, total)
            if name.startswith("after"):
                raise Cancelled

    with pytest.raises(Cancelled):
        run(tmp_path, EndsLater("epoch 1"))
    resumed = run(tmp_path)
    assert [row.fraction < 1 for row in resumed.epochs] == [True]


def test_where_no_worst_class_is_better_the_original_is_kept() -> None:
    """A worst class of 0 that no candidate moves leaves the given weights, without a second audit, and the report says so."""
    done = finetuned(spec=BOUNDED)
    report = done.report
    assert max(one.robust_worst for one in report.candidates) == 0
    assert (report.outcome, report.selected_candidate) == ("kept-original", 0)
    assert report.after == report.before
    assert weights.digest(done.classifier) == report.before.classifier.sha256
    assert report.falls == []
    first, *_ = text.verdict(report)
    assert first.startswith("The original weights are kept: of 4 other candidates, none within the bounds")
    assert text.tone(report) == "neutral"


def test_every_candidate_can_be_made_from_both_ends() -> None:
    """A candidate's weights have the validation accuracies that the report lists for it; the last one is the trained end."""
    done = finetuned(spec=BOUNDED)
    data = load("fashion-mnist-subset", "train")
    data = data.take(data.stratified(300, 0))
    rows = split_rows(data, BOUNDED.training.validation_fraction, BOUNDED.training.seed)
    run = replace(training_run(BOUNDED, data), rows=rows)
    for number, one in enumerate(done.report.candidates):
        made = candidate_classifier(random_classifier(), done.trained_classifier, done.report, number)
        accuracy = validate(made, run)
        assert (accuracy.clean_mean, accuracy.robust_mean) == pytest.approx((one.clean, one.robust), abs=1e-9)
        assert made.spec.class_names == data.class_names
    assert weights.digest(made) == weights.digest(done.trained_classifier)


def test_only_candidates_of_the_report_can_be_made() -> None:
    """A number that no candidate has, and weights that were not fine-tuned, are refused."""
    done = finetuned(spec=BOUNDED)
    for number in (-1, 5):
        with pytest.raises(InvalidSpec, match="5 candidates, numbered from 0"):
            candidate_classifier(random_classifier(), done.trained_classifier, done.report, number)
    with pytest.raises(WeightsMismatch, match="not the weights that were fine-tuned"):
        candidate_classifier(done.trained_classifier, done.trained_classifier, done.report, 1)
    with pytest.raises(WeightsMismatch, match="another run has replaced them"):
        candidate_classifier(random_classifier(), random_classifier(), done.report, 1)


def test_a_classifier_that_withstands_nothing_is_warned_of_before_the_training() -> None:
    """Robust accuracy near zero is recorded as a warning ahead of the first epoch, and the report has it."""
    rows: list[str] = []

    class Notes(NoProgress):
        def record(self, row: BaseModel) -> None:
            rows.append(row.code if isinstance(row, ReliabilityWarning) else type(row).__name__)

    done = finetuned(progress=Notes())
    assert done.report.before.robust.mean.rate < 0.05
    assert rows.index("base-not-robust") < rows.index("EpochRow")
    assert [warning.code for warning in done.report.warnings] == ["base-not-robust"]
    assert ("", done.report.warnings[0]) in text.warnings(done.report)


def test_a_classifier_that_guesses_is_warned_of_too() -> None:
    """One whose answer never changes is as robust as guessing, 10 %, and cannot be fine-tuned to anything either."""
    data = load("fashion-mnist-subset", "train")
    data = data.take(data.stratified(300, 0))
    constant = random_classifier()
    with torch.no_grad():
        constant.backbone.linear.weight.zero_()
        constant.backbone.linear.bias.copy_(torch.arange(10.0))
    test_data = load("fashion-mnist-subset", "test")
    done = finetune(constant, data, test_data, SPEC, name="constant", device=CPU)
    assert done.report.before.robust.mean.rate == pytest.approx(0.1)
    assert [warning.code for warning in done.report.warnings] == ["base-not-robust"]


def test_fine_tuned_weights_carry_the_class_names() -> None:
    """A classifier that came without class names goes out with those of the images it was trained on."""
    done = finetuned()
    assert done.report.before.classifier.spec.class_names is None
    assert (
        done.classifier.spec.class_names
        == done.trained_classifier.spec.class_names
        == done.report.after.dataset.class_names
    )
