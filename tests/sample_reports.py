"""Realistic reports for tests: predictions are drawn image by image, then counted by the library's own tables."""

from collections.abc import Sequence
from datetime import UTC, datetime

import numpy as np

from faal_core.results.class_table import ClassTable, build_group_table
from faal_core.results.comparison import compare
from faal_core.results.documents import (
    AttackRow,
    AuditReport,
    ClassifierSummary,
    DatasetSummary,
    GalleryImage,
    GroupTable,
    Provenance,
    ReliabilityWarning,
)
from faal_core.results.finetune_documents import Candidate, EpochRow, FinetuneReport
from faal_core.results.image_outcomes import UNBROKEN, Evaluation
from faal_core.results.outcomes import Outcomes
from faal_core.specs import AuditSpec, ClassifierSpec, FinetuneSpec, TrainingSpec
from faal_core.threat_model import ThreatModel

FASHION = ("T-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot")
ROBUST_BEFORE = (0.75, 0.94, 0.62, 0.82, 0.55, 0.88, 0.32, 0.90, 0.93, 0.91)
ROBUST_AFTER = (0.72, 0.93, 0.61, 0.80, 0.58, 0.87, 0.47, 0.89, 0.91, 0.90)
THREAT = ThreatModel(epsilon=0.1)

PROVENANCE = Provenance(
    faal="0.1.0",
    torch="2.13.0",
    cuda=None,
    device="cpu",
    instruction_set="AVX2",
    threads=8,
    job_id="job_7",
    model_id="model_3",
)

GREY_PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR42mNoAAAAggCB2kUIOwAAAABJRU5ErkJggg=="  # a PNG

WARNING = ReliabilityWarning(
    code="gradients-vanish",
    message="For 41 % of the images every input gradient is exactly zero.",
    evidence="1,230 of 3,000 images",
    advice="The gradients may be masked: audit with `pgd-100`, and read these rates as upper bounds only.",
)


def draw(robust: Sequence[float], images: int, seed: int) -> Evaluation:
    """Return predictions of `images` images a class: robust with the given chance, else broken by the first or second attack.

    Wrong predictions fall on the two neighbouring classes, so that confusions are not uniform.
    """
    generator = np.random.default_rng(seed)
    classes = len(robust)
    labels = np.repeat(np.arange(classes), images)
    luck = np.random.default_rng(0).random(len(labels))  # the same images are hard before and after
    hold = np.asarray(robust)[labels] + generator.normal(0, 0.03, len(labels))
    neighbour = (labels + generator.choice([1, 1, 2, classes - 1], len(labels))) % classes
    wrong_clean = luck > hold + (1 - hold) * 0.7
    broken = ~wrong_clean & (luck > hold)
    clean = np.where(wrong_clean, neighbour, labels)
    return Evaluation(
        labels=labels,
        clean=clean,
        attacked=np.where(broken, neighbour, clean),
        broken_by=np.where(broken, (generator.random(len(labels)) < 0.15).astype(int), UNBROKEN),
        distance=np.where(broken, THREAT.epsilon, 0.0),
        clean_margin=np.clip(hold + (1 - hold) * 0.7 - luck, -1, 1),
        margin=np.clip(hold - luck, -1, 1),
        sha256=tuple(f"{row:064x}" if fell else "" for row, fell in enumerate(broken)),
    )


def _make_audit(
    evaluation: Evaluation,
    names: tuple[str, ...],
    warnings: tuple[ReliabilityWarning, ...],
    attacks: str | list[dict] = "pgd-20",
    groups: tuple[str, ...] = (),
) -> AuditReport:
    """Return the audit report of those predictions; images belong to the groups in turn."""
    spec = AuditSpec(threat=THREAT, attacks=attacks)
    table = ClassTable(evaluation, names, attacks=len(spec.attacks), confidence=spec.confidence)
    broken = [int((evaluation.broken_by == k).sum()) for k in range(len(spec.attacks))]
    tried = [int(evaluation.correct.sum()) - sum(broken[:k]) for k in range(len(spec.attacks))]
    return AuditReport(
        product="FAAL 0.1.0",
        created_at=datetime(2026, 11, 23, 4, 5, tzinfo=UTC),
        seconds=41.7,
        resumed=False,
        classifier=ClassifierSummary(
            name="fashion-resnet",
            spec=ClassifierSpec(architecture="small_resnet", num_classes=len(names), arguments={"width": 16}),
            parameters=175_258,
            sha256="3f" * 32,
        ),
        dataset=DatasetSummary(
            name="fashion-mnist-subset",
            part="test",
            images=len(evaluation.labels),
            shape=(1, 28, 28),
            class_names=names,
            sha256="a9" * 32,
        ),
        spec=spec,
        warnings=warnings,
        classes=table.build_rows(),
        clean=table.build_spread(table.clean),
        robust=table.build_spread(table.robust),
        groups=(_make_group_table(evaluation, groups, spec),) if groups else (),
        attacks=tuple(
            AttackRow(name=str(a), tried=t, broken=b, forward=21 * t, backward=20 * t, seconds=12.5)
            for a, t, b in zip(spec.attacks, tried, broken, strict=True)
        ),
        confusion=table.count_confusions(),
        provenance=PROVENANCE,
        gallery=_make_gallery(names),
    )


def _make_group_table(evaluation: Evaluation, groups: tuple[str, ...], spec: AuditSpec) -> GroupTable:
    """Return the table of the groups."""
    members = np.arange(len(evaluation.labels)) % len(groups)
    return build_group_table("camera", ClassTable(evaluation, groups, len(spec.attacks), spec.confidence, members))


def _make_gallery(names: tuple[str, ...]) -> tuple[GalleryImage, ...]:
    """Return two images of the first class, a fragile and a hardest one, and a fragile one of the second."""
    fell = {"kind": "fragile", "attack": "PGD-20 (cross-entropy)", "distance": THREAT.epsilon, "png": GREY_PIXEL}
    return (
        GalleryImage(row=7, true=names[0], margin=0.031, predicted=names[1], **fell),
        GalleryImage(kind="hardest", row=12, true=names[0], margin=0.853, png=GREY_PIXEL),
        GalleryImage(row=305, true=names[1], margin=0.118, predicted=names[0], **fell),
    )


def sample_audit(
    names: tuple[str, ...] = FASHION,
    robust: Sequence[float] = ROBUST_BEFORE,
    images: int = 300,
    warnings: tuple[ReliabilityWarning, ...] = (),
    attacks: str | list[dict] = "pgd-20",
    groups: tuple[str, ...] = (),
) -> AuditReport:
    """Return an audit report: of Fashion-MNIST's classes unless other names and rates are given."""
    return _make_audit(draw(robust, images, seed=1), names, warnings, attacks, groups)


def sample_outcomes(
    names: tuple[str, ...] = FASHION,
    robust: Sequence[float] = ROBUST_BEFORE,
    images: int = 300,
    attacks: str | list[dict] = "pgd-20",
    groups: tuple[str, ...] = (),
    seed: int = 1,
) -> tuple[AuditReport, Outcomes]:
    """Return an audit report as `sample_audit` does, and the outcomes that it was computed from."""
    evaluation = draw(robust, images, seed)
    count = len(evaluation.labels)
    columns = {"camera": tuple(groups[row % len(groups)] for row in range(count))} if groups else {}
    outcomes = Outcomes(evaluation, np.arange(count), columns)
    report = _make_audit(evaluation, names, (), attacks, groups)
    return report.model_copy(update={"outcomes_sha256": outcomes.sha256}), outcomes


def sample_finetune(
    names: tuple[str, ...] = FASHION,
    robust_before: Sequence[float] = ROBUST_BEFORE,
    robust_after: Sequence[float] = ROBUST_AFTER,
    learning_rates: tuple[float, ...] = (0.01, 0.01, 0.001),
    validated: bool = True,
    warnings: tuple[ReliabilityWarning, ...] = (),
    groups: tuple[str, ...] = (),
) -> FinetuneReport:
    """Return a fine-tuning report, one epoch for each learning rate."""
    before, after = draw(robust_before, 300, seed=1), draw(robust_after, 300, seed=2)
    audit = _make_audit(before, names, warnings, groups=groups)
    return FinetuneReport(
        product="FAAL 0.1.0",
        created_at=datetime(2026, 11, 23, 4, 9, tzinfo=UTC),
        seconds=118.2,
        spec=FinetuneSpec(threat=THREAT, training=TrainingSpec(learning_rates=learning_rates)),
        training_dataset=audit.dataset.model_copy(update={"part": "train", "images": 6000, "sha256": "c4" * 32}),
        validation_images=600 if validated else 0,
        epochs=_make_epochs(learning_rates, len(names), validated),
        selected_epoch=len(learning_rates),
        candidates=_make_candidates() if validated else (),
        selected_interpolation=0.75 if validated else 1.0,
        before=audit,
        after=_make_audit(after, names, warnings, groups=groups),
        clean=compare(before.labels, before.correct, after.correct, names, 0.95),
        robust=compare(before.labels, before.robust, after.robust, names, 0.95),
    )


def _make_candidates() -> tuple[Candidate, ...]:
    """Return weights whose worst class gains what their mean loses; all but one are on the front."""
    rates = [(0.0, 0.74, 0.31), (0.25, 0.74, 0.36), (0.5, 0.735, 0.41), (0.75, 0.73, 0.45), (1.0, 0.72, 0.47)]
    return tuple(
        Candidate(interpolation=share, clean=0.86, robust=mean, robust_worst=worst, on_front=share > 0)
        for share, mean, worst in rates
    )


def _make_epochs(learning_rates: Sequence[float], classes: int, has_validation: bool) -> tuple[EpochRow, ...]:
    """Return rows of a training with falling loss, whose class weights, around 1, favour every sixth class less and less."""
    rows = []
    for e, rate in enumerate(learning_rates, start=1):
        raw = np.where(np.arange(classes) % 6 == 0, 1 + 3 / e, 0.8)
        rows.append(
            EpochRow(
                epoch=e,
                learning_rate=rate,
                loss=1.9 / e**0.3,
                class_weights=tuple(raw / raw.mean()),
                validation_clean=0.86 - 0.02 / e if has_validation else None,
                validation_robust=0.74 - 0.03 / e if has_validation else None,
                validation_robust_worst=0.47 - 0.12 / e if has_validation else None,
                seconds=9.1,
            )
        )
    return tuple(rows)
