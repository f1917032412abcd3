"""What the pages are filled with."""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import NamedTuple

from api.pages.curves import Curve, Epoch, curves
from api.schemas.resources import EventResource, JobResource, Method, methods
from api.serving.dependencies import Service
from faal_core import catalog
from faal_core.catalog import DatasetEntry, PresetEntry
from faal_core.reports import text
from faal_core.results.documents import AuditReport, ReliabilityWarning
from faal_core.results.finetune_documents import Candidate, FinetuneReport
from faal_core.results.reading import read_report
from jobs import candidates, dataset_registry, model_registry, queries
from jobs.errors import JobCancelled, JobFailed
from jobs.model_registry import ReadyModel
from jobs.named_datasets import available
from jobs.states import FINAL

LISTED = 100  # models, data sets and events of each kind on a page
SHOWN_EVENTS = ("epoch", "attack", "reliability-warning")


@dataclass(frozen=True, slots=True)
class JobView:
    """A job and the names of what it is about."""

    job: JobResource
    model: str | None
    dataset: str | None

    @property
    def final(self) -> bool:
        """Whether it has ended."""
        return self.job.status in FINAL


@dataclass(frozen=True, slots=True)
class Tile:
    """A figure of a report: its name, its value, and a line below."""

    label: str
    value: str
    note: str


class CandidateView(NamedTuple):
    """Weights that a fine-tuning could have kept, and the model of them, if there is one or one can be made."""

    number: int
    candidate: Candidate
    kept: bool
    model: str | None
    can_make: bool


@dataclass(frozen=True, slots=True)
class Course:
    """How a job went, or goes: what its newest events and its report tell.

    Args:
        more: of each kind of event that is shown in part, how many events the job has.
    """

    epochs: Sequence[Epoch]
    curves: Sequence[Curve]
    attacks: Sequence[EventResource]
    more: Mapping[str, int]
    warnings: Sequence[ReliabilityWarning] = ()
    candidates: Sequence["CandidateView"] = ()
    verdict: str = ""
    tone: str = "neutral"
    tiles: Sequence[Tile] = field(default=())


class Named(NamedTuple):
    """A data set of the catalog, and whether jobs can use it here."""

    entry: DatasetEntry
    available: bool


@dataclass(frozen=True, slots=True)
class Choices:
    """What a job can be started with."""

    models: Sequence[ReadyModel]
    uploaded: Mapping[str, str]
    datasets: Sequence[Named]
    presets: Sequence[PresetEntry]
    methods: Sequence[Method]


def job_views(service: Service, jobs: Sequence[JobResource]) -> list[JobView]:
    """Return the jobs with the names of their models and data sets."""
    with service.sessions() as session:
        models = model_registry.names(session, {job.model for job in jobs if job.model is not None})
        datasets = dataset_registry.names(session, {job.dataset for job in jobs if job.dataset is not None})
    return [JobView(job, models.get(job.model or ""), datasets.get(job.dataset or "", job.dataset)) for job in jobs]


def course(service: Service, job_id: str) -> Course:
    """Return how the job went so far. An epoch that a later attempt repeated counts once."""
    document = None
    with service.sessions() as session:
        counts = queries.event_counts(session, job_id)
        newest = {kind: queries.newest_events(session, job_id, kind, limit=LISTED) for kind in SHOWN_EVENTS}
        if queries.job(session, job_id).state in FINAL:
            with suppress(JobFailed, JobCancelled):
                report = queries.report(session, job_id)
                document = None if report is None else report.document
        events = {kind: [EventResource.of(row) for row in rows] for kind, rows in newest.items()}
    epochs = {event.body["epoch"]: Epoch.model_validate(event.body) for event in events["epoch"]}
    ordered = [epochs[number] for number in sorted(epochs)]
    found = None if document is None else read_report(document)
    return Course(
        epochs=ordered,
        curves=curves(ordered),
        attacks=events["attack"],
        more={kind: counts[kind] for kind in SHOWN_EVENTS if counts.get(kind, 0) > LISTED},
        warnings=_warned(events["reliability-warning"]) if found is None else _warnings(found),
        candidates=_candidates(service, job_id, found) if isinstance(found, FinetuneReport) else (),
        verdict="" if found is None else text.verdict(found)[0],
        tone="neutral" if found is None else _tone(found),
        tiles=() if found is None else _tiles(found),
    )


def _warned(events: Sequence[EventResource]) -> list[ReliabilityWarning]:
    """Return the warnings that a job has recorded before its report, each once: every attempt records them again."""
    recorded = [
        ReliabilityWarning.model_validate({name: event.body[name] for name in ReliabilityWarning.model_fields})
        for event in events
    ]
    return _by_code(recorded)


def _warnings(report: AuditReport | FinetuneReport) -> list[ReliabilityWarning]:
    """The report's warnings, one of each kind."""
    return _by_code(warning for _, warning in text.warnings(report))


def _by_code(warnings: Iterable[ReliabilityWarning]) -> list[ReliabilityWarning]:
    """Return the last warning of each code, in the order in which the codes came first."""
    return list({warning.code: warning for warning in warnings}.values())


def _candidates(service: Service, job_id: str, report: FinetuneReport) -> list[CandidateView]:
    """The candidates of a report in their order."""
    with service.sessions() as session:
        job = queries.job(session, job_id)
        models, can_make = candidates.models(session, job, report), candidates.can_make(session, job)
    kept = candidates.kept_number(report)
    return [
        CandidateView(number, one, number == kept, models[number].id if number in models else None, can_make)
        for number, one in enumerate(report.candidates)
    ]


def _judged(report: AuditReport | FinetuneReport) -> AuditReport:
    """Return the audit itself, or the one after a fine-tuning."""
    return report if isinstance(report, AuditReport) else report.after


def _tone(report: AuditReport | FinetuneReport) -> str:
    """Name the colour of the verdict: that of the report's page for a fine-tuning, bad where no image's robustness counts."""
    if _judged(report).robust.verdict == "at-chance":
        return "bad"
    return "neutral" if isinstance(report, AuditReport) else text.tone(report)


def _tiles(report: AuditReport | FinetuneReport) -> list[Tile]:
    """The four figures a report begins with; below each the one before, or what it is about."""
    if isinstance(report, AuditReport):
        worst = (text.shown(report.robust.worst_class), text.shown(report.clean.worst_class))
        notes = (worst[0], "of all images", "of all images", worst[1])
        return [
            Tile(label, text.percent(rate), note) for (label, rate), note in zip(_figures(report), notes, strict=True)
        ]
    if report.outcome == "kept-original":
        return [Tile(label, text.percent(rate), "the original weights") for label, rate in _figures(report.before)]
    pairs = zip(_figures(report.before), _figures(report.after), strict=True)
    return [Tile(label, text.percent(after), f"before {text.percent(before)}") for (_, before), (label, after) in pairs]


def _figures(report: AuditReport) -> list[tuple[str, float]]:
    return [
        ("Robust, worst class", report.robust.worst.value),
        ("Robust, mean", report.robust.mean.rate),
        ("Clean, mean", report.clean.mean.rate),
        ("Clean, worst class", report.clean.worst.value),
    ]


def named_datasets(service: Service) -> list[Named]:
    """Return the data sets of the catalog, those first that jobs can use."""
    named = [Named(entry, available(service.settings, entry.name)) for entry in catalog.datasets().values()]
    return sorted(named, key=lambda one: not one.available)


def choices(service: Service) -> Choices:
    """Return what a job can be started with: models and data sets that are ready, the uploaded ones by id."""
    with service.sessions() as session:
        models, uploaded = model_registry.ready(session, limit=LISTED), dataset_registry.ready(session, limit=LISTED)
    return Choices(
        models=models,
        uploaded=uploaded,
        datasets=named_datasets(service),
        presets=list(catalog.PRESETS.values()),
        methods=methods(),
    )
