"""Recompute the statistics of a report from the outcomes of its images, and list the fields that differ."""

import hashlib
from collections.abc import Iterator, Mapping

import numpy as np

from faal_core.evidence.differences import is_close, list_differences
from faal_core.results.cells import compare_again
from faal_core.results.class_table import ClassTable, build_group_table
from faal_core.results.comparison import compare
from faal_core.results.documents import AuditReport, GalleryImage
from faal_core.results.finetune_documents import FinetuneReport
from faal_core.results.image_outcomes import UNBROKEN
from faal_core.results.outcomes import Outcomes


def list_unsupported(
    report: AuditReport | FinetuneReport, audits: Mapping[str, AuditReport], outcomes: Mapping[str, Outcomes]
) -> list[str]:
    """Return the paths of the fields whose values do not follow from the outcomes.

    It recomputes the classes, means, worst classes, gaps, groups, confusions, digests, the numbers of broken images, the numbers
    of the gallery, and the comparison of a fine-tuning. Warnings, costs and the training cannot follow from outcomes.
    """
    differences = []
    for name, audit in audits.items():
        prefix = "" if isinstance(report, AuditReport) else "before." if audit is report.before else "after."
        differences += [f"{prefix}{path}" for path in _compare_audit(audit, outcomes[name])]
    if isinstance(report, FinetuneReport):
        differences += _compare_finetuning(report, *outcomes.values())
    return differences


def _compare_audit(report: AuditReport, outcomes: Outcomes) -> Iterator[str]:
    one, names = outcomes.evaluation, report.dataset.class_names
    column = (len(report.attacks), report.spec.confidence)
    table = ClassTable(one, names, *column)
    expected = {
        "classes": [row.model_dump() for row in table.build_rows()],
        "clean": table.build_spread(table.clean).model_dump(),
        "robust": table.build_spread(table.robust).model_dump(),
        "groups": [_build_groups(outcomes, name, *column) for name in outcomes.groups],
        "confusion": [pair.model_dump() for pair in table.count_confusions()],
        "adversarial_sha256": hashlib.sha256("\n".join(one.sha256).encode()).hexdigest(),
        "outcomes_sha256": outcomes.sha256,
        "first_look": report.spec.is_first_look(len(names)),
    }
    yield from list_differences(expected, report.model_dump(include=set(expected)), "")
    if report.dataset.images != len(outcomes.rows):
        yield "dataset.images"
    if [attack.name for attack in report.attacks] != [str(spec) for spec in report.attack_specs]:
        yield "attacks"
    robust = int(one.correct.sum())
    for number, (attack, spec) in enumerate(zip(report.attacks, report.attack_specs, strict=False)):
        broken = int((one.broken_by == number).sum())
        is_tried_on_all = spec.margin_left is None
        if attack.broken != broken:
            yield f"attacks[{number}].broken"
        if not broken <= attack.tried <= robust or (is_tried_on_all and attack.tried != robust):
            yield f"attacks[{number}].tried"
        robust -= broken
    for number, image in enumerate(report.gallery):
        if not _is_shown_truly(image, report, outcomes):
            yield f"gallery[{number}]"


def _build_groups(outcomes: Outcomes, column: str, attacks: int, confidence: float) -> dict[str, object]:
    values = outcomes.groups[column]
    names = sorted(set(values))
    places = {name: place for place, name in enumerate(names)}
    members = np.array([places[value] for value in values], np.int64)
    table = ClassTable(outcomes.evaluation, tuple(names), attacks, confidence, members)
    return build_group_table(column, table).model_dump()


def _is_shown_truly(image: GalleryImage, report: AuditReport, outcomes: Outcomes) -> bool:
    """Return whether the numbers beside a picture are those of an image with that outcome."""
    one, names = outcomes.evaluation, report.dataset.class_names
    if not 0 <= image.row < len(outcomes.rows) or image.true != names[one.labels[image.row]]:
        return False
    attack = int(one.broken_by[image.row])
    if image.kind == "hardest":
        return attack == UNBROKEN and is_close(image.margin, float(one.margin[image.row]))
    return (
        attack != UNBROKEN
        and image.attack == report.attacks[attack].name
        and image.predicted == names[one.attacked[image.row]]
        and is_close(image.margin, float(one.clean_margin[image.row]))
        and image.distance is not None
        and is_close(image.distance, float(one.distance[image.row]))
    )


def _compare_finetuning(report: FinetuneReport, before: Outcomes, after: Outcomes) -> Iterator[str]:
    labels = before.evaluation.labels
    if not np.array_equal(before.rows, after.rows) or not np.array_equal(labels, after.evaluation.labels):
        yield "after.outcomes_sha256"
        return
    names, confidence = report.before.dataset.class_names, report.before.spec.confidence
    one, other = before.evaluation, after.evaluation
    expected = {
        "clean": compare(labels, one.correct, other.correct, names, confidence).model_dump(),
        "robust": compare(labels, one.robust, other.robust, names, confidence).model_dump(),
        "outcome": FinetuneReport.model_validate(report.model_dump(exclude={"outcome"})).outcome,
    }
    if report.cells is not None:
        try:
            expected["cells"] = compare_again(report.cells, before, after, names, confidence).model_dump()
        except KeyError:
            yield "cells"
    yield from list_differences(expected, report.model_dump(include=set(expected)), "")
