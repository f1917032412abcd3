"""Tabulate fine-tunings of one model by several methods and seeds, from their reports; no model runs."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from itertools import pairwise
from statistics import fmean
from typing import NamedTuple

from pydantic import JsonValue
from pydantic_core import from_json

from faal_core.errors import InvalidSpec
from faal_core.results.comparability import describe_escalation
from faal_core.results.documents import PRODUCT
from faal_core.results.finetune_documents import FinetuneReport
from faal_core.results.method_table_documents import MethodRow, MethodTable, SeedRow, SeedSummary
from faal_core.results.trust import doubtful_codes
from faal_core.specs import FinetuneSpec, MethodSpec

STOPPED = "audit-stopped"  # the code of the warning about an audit that was stopped
Settings = Mapping[str, str]


class _Run(NamedTuple):
    """Holds the figures of one fine-tuning that the table needs, so that its report can be dropped.

    Args:
        settings: every setting of the method and the training, except the seed, by its dotted path.
        terms: the conditions that all fine-tunings of a table share, by their names.
        changes: the changes against the given model, by the names of the fields of `MethodRow`.
        given_counts: numbers of robust and of correct images of the given model.
    """

    spec: FinetuneSpec
    settings: Settings
    terms: Mapping[str, str]
    row: SeedRow
    changes: Mapping[str, float]
    given_counts: tuple[int, int]
    escalations: tuple[str, str]


def read_reports(documents: Iterable[str]) -> Iterator[FinetuneReport]:
    """Yield fine-tuning reports for `tabulate_methods` from their JSON: all but the first without most of their classes.

    With 1,000 classes this takes a sixth of the time. Raises: pydantic.ValidationError.
    """
    for number, document in enumerate(documents):
        fields = from_json(document)
        if number and "outcome" in fields:  # older reports get their outcome from the classes
            for audit in (fields["before"], fields["after"]):
                audit |= {"classes": audit["classes"][:1], "confusion": [], "groups": [], "gallery": []}
            for comparison in (fields["clean"], fields["robust"]):
                comparison["classes"] = []
        yield FinetuneReport.model_validate(fields)


def tabulate_methods(reports: Iterable[FinetuneReport], requested: int | None = None) -> MethodTable:
    """Return one row for each method, the largest mean over its seeds of the worst class's robust accuracy first.

    Fine-tunings belong to one method if their method and training settings differ in the seed alone.

    Args:
        reports: read one after the other. Only the first is kept until the end, and only its classes are read.
        requested: number of fine-tunings of the study, with those that have no report; None for reports without a study.
    Raises: InvalidSpec without a report, if a seed occurs twice in a method, or if the given weights, the images, the radius,
        the attacks or the confidence differ.
    """
    first, runs = None, []
    for report in reports:
        first = first or report
        runs.append(_extract_run(report))
        _require_equal_terms(runs[0], runs[-1])
    if first is None:
        raise InvalidSpec("A table of methods needs at least one fine-tuning.")
    groups: dict[str, list[_Run]] = {}
    for run in sorted(runs, key=lambda one: one.row.seed):
        groups.setdefault(json.dumps(run.settings, sort_keys=True), []).append(run)
    firsts = [group[0] for group in groups.values()]
    names = _distinguish_names([str(run.spec.method) for run in firsts], [run.settings for run in firsts])
    rows = [_build_row(name, group) for name, group in zip(names, groups.values(), strict=True)]
    return MethodTable(
        product=PRODUCT,
        created_at=datetime.now(UTC),
        given_model=first.before.model_copy(update={"gallery": ()}),
        training_dataset=first.training_dataset,
        methods=tuple(sorted(rows, key=lambda row: (-row.robust_worst.mean, -row.robust_mean.mean, row.name))),
        differences=tuple(_list_differences(runs)),
        missing=0 if requested is None else requested - len(runs),
    )


def name_methods(methods: Sequence[MethodSpec]) -> list[str]:
    """Return the name of each method of a study, as its table has it when all methods have reports."""
    settings = [dict(_flatten({"method": method.model_dump(mode="json")})) for method in methods]
    return _distinguish_names([str(method) for method in methods], settings)


def _extract_run(report: FinetuneReport) -> _Run:
    settings = report.spec.model_dump(mode="json", include={"method", "training"})
    del settings["training"]["seed"]
    audit, audited = report.spec.audit, report.after
    row = SeedRow(
        seed=report.spec.training.seed,
        job_id=audited.provenance.job_id if audited.provenance else None,
        outcome=report.outcome,
        clean=audited.clean,
        robust=audited.robust,
        doubtful=(*doubtful_codes(audited), *(() if audited.complete else (STOPPED,))),
        epochs=sum(epoch.fraction for epoch in report.epochs),
        minutes=report.seconds / 60,
    )
    return _Run(
        spec=report.spec,
        settings=dict(_flatten(settings)),
        terms={
            "given weights": report.before.classifier.sha256,
            "training images": report.training_dataset.sha256,
            "test images": report.before.dataset.sha256,
            "radii": str(report.spec.threat),
            "attacks": "; ".join(map(repr, audit.attacks)),
            "settings of `escalate`": str(audit.escalate),
            "confidence levels": str(audit.confidence),
        },
        row=row,
        changes={
            "robust_worst_change": report.robust.worst_change.value,
            "robust_mean_change": report.robust.mean_change.value,
            "clean_mean_change": report.clean.mean_change.value,
        },
        given_counts=(report.before.robust.mean.count, report.before.clean.mean.count),
        escalations=(describe_escalation(report.before), describe_escalation(audited)),
    )


def _flatten(value: JsonValue, path: str = "") -> Iterator[tuple[str, str]]:
    """Yield the path and the value, as JSON, of every field that is no object."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from _flatten(inner, f"{path}.{name}" if path else name)
    else:
        yield path, json.dumps(value)


def _require_equal_terms(one: _Run, other: _Run) -> None:
    """Check that both fine-tunings began with the same weights and were judged alike. Raises: InvalidSpec."""
    for things, term in one.terms.items():
        if term != other.terms[things]:
            raise InvalidSpec(
                f"The fine-tunings have different {things}, {term} and {other.terms[things]}, so no table can compare their "
                "methods. Tabulate those with the same."
            )


def _find_differing(settings: Sequence[Settings]) -> list[str]:
    """Return the paths of the fields in which the settings are not all equal."""
    paths = dict.fromkeys(path for one in settings for path in one)
    return [path for path in paths if len({one.get(path) for one in settings}) > 1]


def _distinguish_names(names: Sequence[str], settings: Sequence[Settings]) -> list[str]:
    """Return the name of each method; those of the same name also have the fields in which their settings differ."""
    alike: dict[str, list[Settings]] = {}
    for name, one in zip(names, settings, strict=True):
        alike.setdefault(name, []).append(one)
    differing = {name: _find_differing(group) for name, group in alike.items()}
    return [
        ", ".join([name, *(f"{path.removeprefix('method.')} = {one[path]}" for path in differing[name] if path in one)])
        for name, one in zip(names, settings, strict=True)
    ]


def _build_row(name: str, runs: Sequence[_Run]) -> MethodRow:
    """Return the row of one method, whose fine-tunings are in the order of their seeds. Raises: InvalidSpec."""
    seeds = tuple(run.row for run in runs)
    for one, other in pairwise(seeds):
        if one.seed == other.seed:
            raise InvalidSpec(f"Two fine-tunings by {name} have the seed {one.seed}. Name only one of them.")
    return MethodRow(
        name=name,
        spec=runs[0].spec,
        seeds=seeds,
        robust_worst=_summarise([row.robust.worst.value for row in seeds]),
        robust_worst_low=min(row.robust.worst.low for row in seeds),
        robust_mean=_summarise([row.robust.mean.rate for row in seeds]),
        clean_mean=_summarise([row.clean.mean.rate for row in seeds]),
        minutes=fmean(row.minutes for row in seeds),
        **{field: _summarise([run.changes[field] for run in runs]) for field in runs[0].changes},
    )


def _summarise(values: Sequence[float]) -> SeedSummary:
    return SeedSummary(mean=fmean(values), lowest=min(values), highest=max(values))


def _list_differences(runs: Sequence[_Run]) -> Iterator[str]:
    """Yield a sentence for each difference beside method and seed."""
    paths = _find_differing([run.settings for run in runs])
    if training := [path for path in paths if path.startswith("training.")]:
        yield f"The fine-tunings have different training settings: {', '.join(training)}."
    if len({run.given_counts for run in runs}) > 1:
        yield "The audits of the given model differ between the fine-tunings, as they do on different processors."
    if len({escalation for run in runs for escalation in run.escalations}) > 1:
        yield "After warnings about gradients, some of the audits had further attacks."
