"""The data that the templates of the pages show."""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from api.pages.comparison_names import ComparedJob, describe_comparison, name_compared_jobs
from api.pages.curves import Curve, Epoch, curves
from api.pages.start_form import StartForm
from api.schemas.methods import methods
from api.schemas.rows import describe_event
from api.serving.dependencies import Service
from faal_client.resources.catalog import Method
from faal_client.resources.objects import EventResource, JobResource
from faal_core import catalog
from faal_core.catalog import DatasetEntry, PresetEntry
from faal_core.errors import InvalidSpec
from faal_core.reports import text
from faal_core.results.documents import AuditReport, ReliabilityWarning
from faal_core.results.finetune_documents import Candidate, FinetuneReport
from faal_core.results.reading import newest_audit, read_any_report
from jobs import candidates, dataset_registry, model_registry, queries, submission
from jobs.errors import JobCancelled, JobFailed
from jobs.model_registry import ReadyModel
from jobs.named_datasets import is_available
from jobs.states import AUDITING, FINAL, JobKind, JobState

LISTED = 100  # most models, data sets or events of each kind on a page
SHOWN_EVENTS = ("epoch", "attack", "reliability-warning")


@dataclass(frozen=True, slots=True)
class JobView:
    """A job, the names of its model and its data set, and the jobs that a comparison is about."""

    job: JobResource
    model: str | None
    dataset: str | None
    compared: Sequence[ComparedJob] = ()

    @property
    def name(self) -> str:
        """Return the name of the job's model, of its data set or of the comparison, or else the id."""
        return self.model or self.dataset or describe_comparison(self.compared) or self.job.id

    @property
    def final(self) -> bool:
        """Return whether the job has ended."""
        return self.job.status in FINAL

    @property
    def active(self) -> bool:
        """Return whether the job waits for a worker or runs, so that its state may change by itself."""
        return self.job.status in (JobState.QUEUED, JobState.RUNNING)

    @property
    def comparable(self) -> bool:
        """Return whether the job's report can be compared with that of another job."""
        return self.job.kind in AUDITING and self.job.status is JobState.SUCCEEDED

    @property
    def selectable(self) -> bool:
        """Return whether the list offers to compare the job, now or as soon as it has succeeded."""
        return self.job.kind in AUDITING and (self.active or self.comparable)

    @property
    def finished_fraction(self) -> float | None:
        """Return the finished fraction of the whole job's running time, as estimated; None if unknown."""
        left = None if self.job.progress is None else self.job.progress.seconds_left
        return (
            None if left is None or not self.job.seconds_run else self.job.seconds_run / (self.job.seconds_run + left)
        )

    @property
    def state_key(self) -> str:
        """Return a text that changes when the state, the buttons or the outcome of the job's page change."""
        requested = ("cancel", self.job.cancel_requested), ("pause", self.job.pause_requested)
        return ".".join([self.job.status, *(word for word, is_requested in requested if is_requested)])


@dataclass(frozen=True, slots=True)
class Tile:
    """A figure of a report: its name, its value, and a note below it."""

    label: str
    value: str
    note: str


class CandidateView(NamedTuple):
    """A candidate of a fine-tuning, and its model, if there is one or one can be made."""

    number: int
    candidate: Candidate
    selected: bool
    model: str | None
    can_make: bool


@dataclass(frozen=True, slots=True)
class Course:
    """The course of a job, from its newest events and its report.

    Args:
        more: total number of events of each kind of which the page shows only the newest.
        rows_key: a text that changes when a row is added.
    """

    epochs: Sequence[Epoch]
    curves: Sequence[Curve]
    attacks: Sequence[EventResource]
    more: Mapping[str, int]
    rows_key: str
    warnings: Sequence[ReliabilityWarning] = ()
    candidates: Sequence["CandidateView"] = ()
    verdict: str = ""
    tone: str = "neutral"
    tiles: Sequence[Tile] = field(default=())


class Named(NamedTuple):
    """A data set of the catalog, and whether jobs can use it here."""

    entry: DatasetEntry
    available: bool


class DatasetChoices(NamedTuple):
    """The data sets to choose from: names of uploaded ones by id, and those of the catalog."""

    uploaded: Mapping[str, str]
    entries: Sequence[Named]


@dataclass(frozen=True, slots=True)
class Choices:
    """The choices of the form that starts a job."""

    models: Sequence[ReadyModel]
    model_id: str  # of the chosen model, or empty
    datasets: DatasetChoices
    presets: Sequence[PresetEntry]
    methods: Sequence[Method]


def job_views(service: Service, jobs: Sequence[JobResource]) -> list[JobView]:
    """Return the jobs with the names of their models and data sets."""
    with service.sessions() as session:
        models = model_registry.find_names(session, {job.model for job in jobs if job.model is not None})
        datasets = dataset_registry.find_names(session, {job.dataset for job in jobs if job.dataset is not None})
    compared = name_compared_jobs(service, jobs)
    return [
        JobView(
            job, models.get(job.model or ""), datasets.get(job.dataset or "", job.dataset), compared.get(job.id, ())
        )
        for job in jobs
    ]


def offers_comparison(views: Iterable[JobView]) -> bool:
    """Return whether a list offers to compare its jobs: two or more can be compared, now or as soon as they have succeeded."""
    return sum(view.selectable for view in views) > 1


def course(service: Service, job_id: str) -> Course:
    """Return the course of the job so far. An epoch that a later attempt repeated counts once."""
    document = None
    with service.sessions() as session:
        counts = queries.count_events(session, job_id)
        newest = {kind: queries.list_newest_events(session, job_id, kind, limit=LISTED) for kind in SHOWN_EVENTS}
        if queries.find_job(session, job_id).state in FINAL:
            with suppress(JobFailed, JobCancelled):
                report = queries.find_report(session, job_id)
                document = None if report is None else report.document
        events = {kind: [describe_event(row) for row in rows] for kind, rows in newest.items()}
    epochs = {event.body["epoch"]: Epoch.model_validate(event.body) for event in events["epoch"]}
    ordered = [epochs[number] for number in sorted(epochs)]
    stored_report = None if document is None else read_any_report(document)
    audited = stored_report if isinstance(stored_report, AuditReport | FinetuneReport) else None
    return Course(
        epochs=ordered,
        curves=curves(ordered),
        attacks=events["attack"],
        more={kind: counts[kind] for kind in SHOWN_EVENTS if counts.get(kind, 0) > LISTED},
        rows_key=".".join(str(counts.get(kind, 0)) for kind in SHOWN_EVENTS),
        warnings=_read_warnings(events["reliability-warning"]) if audited is None else _warnings(audited),
        candidates=_candidates(service, job_id, audited) if isinstance(audited, FinetuneReport) else (),
        verdict="" if stored_report is None else text.verdict(stored_report)[0],
        tone="neutral" if audited is None else _tone(audited),
        tiles=() if audited is None else _tiles(audited),
    )


def _read_warnings(events: Sequence[EventResource]) -> list[ReliabilityWarning]:
    """Return the warnings that a job has recorded before its report, each once: every attempt records them again."""
    recorded = [
        ReliabilityWarning.model_validate({name: event.body[name] for name in ReliabilityWarning.model_fields})
        for event in events
    ]
    return _by_code(recorded)


def _warnings(report: AuditReport | FinetuneReport) -> list[ReliabilityWarning]:
    """Return the report's warnings, one of each code."""
    return _by_code(warning for _, warning in text.warnings(report))


def _by_code(warnings: Iterable[ReliabilityWarning]) -> list[ReliabilityWarning]:
    """Return the last warning of each code, in the order in which the codes came first."""
    return list({warning.code: warning for warning in warnings}.values())


def _candidates(service: Service, job_id: str, report: FinetuneReport) -> list[CandidateView]:
    """Return the candidates of a report in their order."""
    with service.sessions() as session:
        job = queries.find_job(session, job_id)
        models, can_make = candidates.list_models(session, job, report), candidates.can_make(session, job)
    selected = candidates.selected_candidate(report)
    return [
        CandidateView(number, one, number == selected, models[number].id if number in models else None, can_make)
        for number, one in enumerate(report.candidates)
    ]


def _tone(report: AuditReport | FinetuneReport) -> str:
    """Name the colour of the verdict: as on the report's page, but bad if the robust accuracy is at chance."""
    if newest_audit(report).robust.verdict == "at-chance":
        return "bad"
    return "neutral" if isinstance(report, AuditReport) else text.tone(report)


def _tiles(report: AuditReport | FinetuneReport) -> list[Tile]:
    """Return the four main figures of a report, each with the figure before the fine-tuning or a note."""
    if isinstance(report, AuditReport):
        worst = (text.sanitise(report.robust.worst_class), text.sanitise(report.clean.worst_class))
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
    """Return the data sets of the catalog; those that jobs can use come first."""
    named = [Named(entry, is_available(service.settings, entry.name)) for entry in catalog.datasets().values()]
    return sorted(named, key=lambda one: not one.available)


def choices(service: Service, form: StartForm) -> Choices:
    """Return the choices of the form that starts a job: ready models, the data sets that fit the chosen one, and settings."""
    with service.sessions() as session:
        models = model_registry.list_ready(session, limit=LISTED)
    model_id = form.model or (models[0].id if len(models) == 1 else "")
    return Choices(
        models=models,
        model_id=model_id,
        datasets=list_fitting_datasets(service, model_id, training=form.kind is JobKind.FINETUNE),
        presets=list(catalog.PRESETS.values()),
        methods=methods(),
    )


def list_fitting_datasets(service: Service, model_id: str, *, training: bool) -> DatasetChoices:
    """Return the data sets that a job about the model can use; all of them without a model that is ready.

    Args:
        training: whether the job needs training images.
    """
    with service.sessions() as session:
        model = model_registry.find_ready(session, model_id) if model_id else None
        uploaded = dataset_registry.list_ready_rows(session, limit=LISTED)
    named = named_datasets(service)
    if model is None:
        return DatasetChoices({row.id: row.name for row in uploaded}, named)
    return DatasetChoices(
        {row.id: row.name for row in uploaded if _fits(model.spec, row.id, row.summary, training)},
        [one for one in named if _fits(model.spec, one.entry.name, None, training)],
    )


def _fits(classifier: Mapping[str, Any], dataset: str, summary: Mapping[str, Any] | None, training: bool) -> bool:
    try:
        submission.require_fit(classifier, dataset, summary, training=training)
    except InvalidSpec:
        return False
    return True
