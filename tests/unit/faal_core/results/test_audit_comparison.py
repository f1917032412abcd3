"""Audits are compared by tests that raise few false alarms and find real changes."""

import numpy as np
import pytest
from scipy.stats import binomtest, chi2, fisher_exact

from faal_core.errors import InvalidSpec
from faal_core.reports.comparison_text import choose_tone, summarise_comparison
from faal_core.results import intervals
from faal_core.results.audit_comparison import compare_audits, tabulate_audits
from faal_core.results.class_table import ClassTable
from faal_core.results.comparison import compare
from faal_core.results.documents import AuditReport, ReliabilityWarning
from faal_core.results.image_outcomes import UNBROKEN, Evaluation
from faal_core.results.outcomes import Outcomes
from faal_core.results.reading import StoredAudit
from tests.sample_reports import FASHION, ROBUST_AFTER, sample_outcomes

SIMULATIONS = 1_000
ALPHA = 0.05


def sample(**options: object) -> StoredAudit:
    """Return a sample audit with its outcomes."""
    return StoredAudit(*sample_outcomes(**options))


BEFORE, AFTER = sample(groups=("left", "right")), sample(robust=ROBUST_AFTER, seed=2, groups=("left", "right"))


def test_audits_of_the_same_images_are_compared_image_by_image() -> None:
    """Each p-value is that of the sign test on the images that changed, and Holm's factor counts all classes and means."""
    report = compare_audits(BEFORE, AFTER)
    assert (report.pairing, report.reason) == ("paired", None)
    one, other = BEFORE.outcomes.evaluation, AFTER.outcomes.evaluation
    for kind, flags, other_flags in (("robust", one.robust, other.robust), ("clean", one.correct, other.correct)):
        for c, row in enumerate(getattr(report, kind).classes):
            members = one.labels == c
            gained, lost = (members & ~flags & other_flags).sum(), (members & flags & ~other_flags).sum()
            assert (row.gained, row.lost) == (gained, lost)
            expected = binomtest(int(gained), int(gained + lost)).pvalue if gained + lost else 1.0
            assert row.p_value == pytest.approx(expected)
    raw = [row.p_value for side in (report.clean, report.robust) for row in side.classes]
    smallest = min(raw)
    row = next(row for side in (report.clean, report.robust) for row in side.classes if row.p_value == smallest)
    assert row.p_adjusted == pytest.approx(22 * smallest)
    shirt = report.robust.classes[FASHION.index("shirt")]
    assert (shirt.verdict, report.outcome) == ("better", "better")
    assert report.robust_mean.p_value == pytest.approx(
        binomtest(int((~one.robust & other.robust).sum()), int((one.robust != other.robust).sum())).pvalue
    )


def test_groups_are_compared_within_their_column() -> None:
    """Each column of groups has its own paired tests, which add up to the same images."""
    (column,) = compare_audits(BEFORE, AFTER).groups
    assert (column.column, [row.name for row in column.robust.classes]) == ("camera", ["left", "right"])
    raw = [row.p_value for side in (column.clean, column.robust) for row in side.classes]
    adjusted = [row.p_adjusted for side in (column.clean, column.robust) for row in side.classes]
    assert min(adjusted) == pytest.approx(min(1, 4 * min(raw)))
    changed = (BEFORE.outcomes.evaluation.robust != AFTER.outcomes.evaluation.robust).sum()
    assert sum((row.gained or 0) + (row.lost or 0) for row in column.robust.classes) == changed


def warn(audit: StoredAudit, code: str) -> StoredAudit:
    """Return the audit with a warning of that code."""
    warning = ReliabilityWarning(code=code, message="m", evidence="e", advice="a")
    return StoredAudit(audit.report.model_copy(update={"warnings": (warning,)}), audit.outcomes)


def swap_accuracies(report: AuditReport) -> AuditReport:
    """Return the report with the clean accuracies as the robust ones, and the reverse."""
    rows = tuple(row.model_copy(update={"clean": row.robust, "robust": row.clean}) for row in report.classes)
    return report.model_copy(update={"classes": rows, "clean": report.robust, "robust": report.clean})


@pytest.mark.parametrize("code", ["zero-gradient", "training-images"])
@pytest.mark.parametrize("kind", ["robust", "clean"])
def test_a_change_from_or_to_rates_that_may_be_too_high_is_doubtful(kind: str, code: str) -> None:
    """The first sentence doubts falls where the first audit has the warning, and rises where the second has it."""
    counts = {"x": (20, 100), "y": (80, 100)}
    low, high = count_audit(counts), count_audit({name: (count + 20, 100) for name, (count, _) in counts.items()})
    if kind == "clean":
        low, high = (StoredAudit(swap_accuracies(one.report), None) for one in (low, high))
    is_doubtful = kind == "robust" or code == "training-images"
    for before, after, word, tone in (
        (warn(high, code), low, "lower", "bad"),
        (low, warn(high, code), "higher", "good"),
    ):
        report = compare_audits(before, after)
        sentence = summarise_comparison(report)[0]
        assert f"{kind} accuracy of x (" in sentence
        audit = "first" if word == "lower" else "second"
        doubt = f"Measured {word}, but rates of the {audit} audit may be far too high ({code}): "
        assert sentence.startswith(doubt if is_doubtful else f"Significantly {word}: ")
        assert choose_tone(report) == ("mixed" if is_doubtful else tone)
    for before, after, word, tone in (
        (high, warn(low, code), "lower", "bad"),
        (warn(low, code), high, "higher", "good"),
    ):
        report = compare_audits(before, after)
        assert summarise_comparison(report)[0].startswith(f"Significantly {word}: ")
        assert choose_tone(report) == tone


def other_images(audit: StoredAudit) -> StoredAudit:
    """Return the audit as one of other images."""
    report = audit.report
    dataset = report.dataset.model_copy(update={"sha256": "b1" * 32, "name": "other"})
    return StoredAudit(report.model_copy(update={"dataset": dataset}), audit.outcomes)


def test_audits_of_other_images_are_compared_by_their_counts() -> None:
    """The p-values are Fisher's, no image counts as gained or lost, and the report says why."""
    report = compare_audits(BEFORE, other_images(AFTER))
    assert report.pairing == "two-sample"
    assert report.reason == "The audits have different images, fashion-mnist-subset and other."
    for row, one, other in zip(report.robust.classes, report.before.classes, report.after.classes, strict=True):
        counts = [[rate.count, rate.images - rate.count] for rate in (one.robust, other.robust)]
        assert row.p_value == pytest.approx(fisher_exact(counts).pvalue)
        assert row.gained is row.lost is None
    assert report.groups == ()


def test_classes_are_matched_by_their_names() -> None:
    """With other images, classes in another order are compared by name, and those of one audit alone are left out."""
    names = (*reversed(FASHION[1:]), "hat")
    turned = other_images(sample(names=names, robust=(*reversed(ROBUST_AFTER[1:]), 0.5)))
    report = compare_audits(BEFORE, turned)
    assert [row.name for row in report.robust.classes] == list(FASHION[1:])
    rates = {row.name: row.robust.rate for row in turned.report.classes}
    assert [row.after for row in report.robust.classes] == [rates[name] for name in FASHION[1:]]


def count_audit(counts: dict[str, tuple[int, int]]) -> StoredAudit:
    """Return an audit of other images with these counts, robust and in all, of each class."""
    names, robust = tuple(counts), []
    for count, images in counts.values():
        robust += [True] * count + [False] * (images - count)
    labels = np.repeat(np.arange(len(names)), [images for _, images in counts.values()])
    flags = np.array(robust)
    sizes = np.zeros(len(labels))
    attacked = np.where(flags, labels, (labels + 1) % len(names))
    broken = np.where(flags, UNBROKEN, 0)
    evaluation = Evaluation(labels, labels, attacked, broken, sizes, sizes, sizes, ("",) * len(labels))
    table = ClassTable(evaluation, names, attacks=2, confidence=0.95)
    report, _ = sample_outcomes(names, (0.5,) * len(names), images=2)
    dataset = report.dataset.model_copy(update={"images": len(labels), "sha256": f"{len(labels):064x}"})
    spread = {"clean": table.build_spread(table.clean), "robust": table.build_spread(table.robust)}
    changes = {"dataset": dataset, "classes": table.build_rows(), **spread}
    return StoredAudit(report.model_copy(update=changes), None)


def test_another_mix_of_classes_is_no_change() -> None:
    """Classes with the same rates but other shares of the images leave the mean unchanged."""
    before = count_audit({"x": (20, 100), "y": (800, 1000)})
    after = count_audit({"x": (200, 1000), "y": (80, 100)})
    report = compare_audits(before, after)
    assert report.robust.mean_change.value == pytest.approx(0)
    assert report.robust.mean_change.low < 0 < report.robust.mean_change.high
    assert (report.robust_mean.verdict, report.falls) == ("unclear", [])


def test_classes_of_one_audit_alone_are_named() -> None:
    """The reason lists them, and the sentence on the worst class is about the classes that were compared."""
    before = count_audit({"hard": (10, 100), "x": (66, 100), "y": (80, 100)})
    after = count_audit({"x": (66, 100), "y": (80, 100), "z": (97, 100)})
    report = compare_audits(before, after)
    assert "2 classes are left out, because only one audit has them: hard, z." in str(report.reason)
    assert "was x with 66.0 % and is x with 66.0 %: +0.0 points" in summarise_comparison(report)[1]


def test_the_stratified_test_is_that_of_mantel_and_haenszel() -> None:
    """The p-value equals that of the reference for 2 × 2 × K tables with continuity correction, for one stratum and for three."""
    counts = np.array([[30, 50, 20, 50], [12, 40, 9, 60], [44, 80, 30, 70]])
    tables = [np.array([[b, m - b], [a, n - a]]) for a, n, b, m in counts.tolist()]
    excess = sum(table[0, 0] - table[0].sum() * table[:, 0].sum() / table.sum() for table in tables)
    variance = sum(
        table[0].sum() * table[1].sum() * table[:, 0].sum() * table[:, 1].sum() / (table.sum() ** 2 * (table.sum() - 1))
        for table in tables
    )
    expected = chi2.sf((abs(excess) - 0.5) ** 2 / variance, 1)
    assert intervals.stratified_change(counts, 0.95).p_value == pytest.approx(expected)


def test_missing_outcomes_are_named() -> None:
    """Without the outcomes of one audit the counts are compared, and the reason says whose outcomes are missing."""
    report = compare_audits(BEFORE, StoredAudit(AFTER.report, None))
    assert report.reason == "The outcomes of the images are not stored beside the report of fashion-resnet."


def test_other_rows_are_not_paired() -> None:
    """Outcomes of other rows are compared by counts, even where a forged report claims the same images."""
    shifted = Outcomes(AFTER.outcomes.evaluation, AFTER.outcomes.rows + 1)
    report = compare_audits(BEFORE, StoredAudit(AFTER.report, shifted))
    assert (report.pairing, report.reason) == ("two-sample", "The audits have different rows of the data set.")


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"spec": {"attacks": "quick"}}, "different attacks"),
        ({"spec": {"threat": {"epsilon": 0.05}}}, "different radii, L∞ ε = 0.1 and L∞ ε = 0.05"),
    ],
)
def test_other_attacks_and_radii_are_refused(changed: dict, message: str) -> None:
    """Where attacks or radius differ, there is no test, and the error says what differs."""
    spec = type(AFTER.report.spec).model_validate(AFTER.report.spec.model_dump() | changed["spec"])
    with pytest.raises(InvalidSpec, match=message):
        compare_audits(BEFORE, StoredAudit(AFTER.report.model_copy(update={"spec": spec}), AFTER.outcomes))


def test_audits_without_a_common_class_are_refused() -> None:
    """Audits whose classes have no name in common are refused."""
    names = tuple(f"other {name}" for name in FASHION)
    with pytest.raises(InvalidSpec, match="no class in common"):
        compare_audits(BEFORE, other_images(sample(names=names)))


def test_two_classes_of_one_name_are_refused() -> None:
    """Classes are compared by name, so a repeated name is refused."""
    repeated = sample(names=("shirt", "shirt", *FASHION[2:]))
    with pytest.raises(InvalidSpec, match="has two classes of one name"):
        compare_audits(BEFORE, other_images(repeated))


def simulate(robust: np.ndarray, images: int, flip: np.ndarray, fall: np.ndarray, seed: int) -> tuple[StoredAudit, ...]:
    """Return two audits of the same images by two models.

    Args:
        robust: rate of each class.
        flip: probability of each class that an image changes, in either direction, between equal models.
        fall: how much lower the second model's rate is.
    """
    generator = np.random.default_rng(seed)
    labels = np.repeat(np.arange(len(robust)), images)
    first = generator.random(len(labels)) < robust[labels]
    uniform = generator.random(len(labels))
    lost = first & (uniform < (flip / 2 + fall)[labels] / robust[labels])
    gained = ~first & (uniform < (flip / 2)[labels] / (1 - robust[labels]))
    second = (first & ~lost) | gained
    names = tuple(f"class {c}" for c in range(len(robust)))
    report, _ = sample_outcomes(names, robust, images=2)
    audits = []
    for flags in (first, second):
        broken = np.where(flags, UNBROKEN, 0)
        sizes = np.zeros(len(labels))
        wrong = (labels + 1) % len(robust)
        evaluation = Evaluation(
            labels, labels, np.where(flags, labels, wrong), broken, sizes, sizes, sizes, ("",) * len(labels)
        )
        audits.append(StoredAudit(report, Outcomes(evaluation, np.arange(len(labels)))))
    return tuple(audits)


def verdicts(audits: tuple[StoredAudit, ...]) -> set[str]:
    """Return the verdicts on all classes and on the mean of the robust accuracy."""
    report = compare_audits(*audits)
    return {row.verdict for row in report.robust.classes} | {report.robust_mean.verdict}


@pytest.mark.parametrize("seed", range(3))
def test_equal_models_raise_few_false_alarms(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 1,000 pairs of equal models, at most the share α, beyond the noise of the simulation, shows any change."""
    monkeypatch.setattr(intervals, "_DRAWS", 100)  # of the interval of the mean, which no verdict uses
    classes = (10, 3, 30)[seed]
    generator = np.random.default_rng(seed)
    robust = generator.uniform(0.05, 0.95, classes)
    flip = 2 * np.minimum(robust, 1 - robust) * generator.uniform(0.02, 0.5, classes)
    alarms = sum(
        verdicts(simulate(robust, 60, flip, np.zeros(classes), 10_000 * seed + number)) != {"unclear"}
        for number in range(SIMULATIONS // 3)
    )
    assert alarms / (SIMULATIONS // 3) <= ALPHA + 3 * np.sqrt(ALPHA * (1 - ALPHA) / (SIMULATIONS // 3))


def test_planted_falls_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """A class of 1,000 images that falls by 5 points is found in at least 80 % of the simulations, by its name."""
    monkeypatch.setattr(intervals, "_DRAWS", 100)
    robust, flip, fall = np.full(10, 0.5), np.full(10, 0.04), np.zeros(10)
    fall[3] = 0.05
    found = 0
    for number in range(100):
        report = compare_audits(*simulate(robust, 1_000, flip, fall, number))
        found += report.robust.classes[3].verdict == "worse"
        assert "better" not in {row.verdict for row in report.robust.classes}
    assert found >= 80


def test_a_table_lists_the_best_worst_class_first() -> None:
    """Within a radius, audits are in descending order of the lower bound of the worst class; differences are named."""
    weaker = other_images(sample()).report
    smaller = BEFORE.report.spec.model_copy(
        update={"threat": BEFORE.report.spec.threat.model_copy(update={"epsilon": 0.05})}
    )
    table = tabulate_audits([weaker, AFTER.report, BEFORE.report.model_copy(update={"spec": smaller})])
    assert [audited.spec.threat.epsilon for audited in table.audits] == [0.05, 0.1, 0.1]
    lows = [audited.robust.worst.low for audited in table.audits]
    assert lows[1] > lows[2]
    assert table.differences == ("The audits have different images.",)
    assert [radius for radius, _ in table.by_radius()] == ["L∞ ε = 0.05", "L∞ ε = 0.1"]


def test_the_interval_of_a_difference_is_newcombes() -> None:
    """The bounds are those of Newcombe's Table II, method 10: 56 of 70 and 48 of 80, and 9 of 10 and 3 of 10."""
    for counts, expected in (((48, 80, 56, 70), (0.0524, 0.3339)), ((3, 10, 9, 10), (0.1705, 0.8090))):
        assert intervals.difference_bounds(np.array(counts), 0.95) == pytest.approx(expected, abs=6e-5)


def test_a_comparison_with_itself_shows_nothing() -> None:
    """An audit compared with itself has no change."""
    report = compare_audits(BEFORE, BEFORE)
    assert report.outcome == "unclear"
    assert not report.falls
    assert report.robust.mean_change.value == 0
    assert all(row.p_adjusted == 1 for row in report.robust.classes)


def test_verdicts_of_a_fine_tuning_are_adjusted_over_its_classes_alone() -> None:
    """`compare`, which a fine-tuning's report uses, multiplies the smallest p-value by the number of classes."""
    one, other = BEFORE.outcomes.evaluation, AFTER.outcomes.evaluation
    rows = compare(one.labels, one.robust, other.robust, FASHION, 0.95).classes
    smallest = min(rows, key=lambda row: row.p_value)
    assert smallest.p_adjusted == pytest.approx(10 * smallest.p_value)
