"""The names of comparisons: those of the models whose audits they compare."""

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

from api.serving.dependencies import Service
from faal_client.resources.objects import JobResource
from jobs import model_registry, queries
from jobs.states import JobKind

_NAMED = 3  # jobs in the name of a table


class ComparedJob(NamedTuple):
    """A job that a comparison is about: its id, and the name of its model, or the id if the job was deleted."""

    id: str
    name: str


def name_compared_jobs(service: Service, jobs: Sequence[JobResource]) -> Mapping[str, Sequence[ComparedJob]]:
    """Return the jobs that each comparison of `jobs` is about, by its id, in the order of the comparison.

    Models of one name are distinguished by the times at which they were added, or else the jobs by their own times.
    """
    comparisons = {job.id: job.spec["jobs"] for job in jobs if job.kind is JobKind.COMPARE}
    ids = {one for compared in comparisons.values() for one in compared}
    if not ids:
        return {}
    with service.sessions() as session:
        rows = queries.list_jobs(session, ids=ids, limit=len(ids)).data
        models = {row.id: row.result_model_id or row.model_id or "" for row in rows}
        model_names = model_registry.find_names(session, set(models.values()))
        added = model_registry.find_creation_times(session, set(models.values()))
    names = {one: model_names[model] for one, model in models.items() if model in model_names}
    versions = {one: f"{name}, version added {_minute(added[models[one]])}" for one, name in names.items()}
    audits = {
        row.id: f"{names[row.id]}, job of {_minute(row.created_at)}:{row.created_at:%S}"
        for row in rows
        if row.id in names
    }
    chosen = {comparison: _choose(compared, names, versions, audits) for comparison, compared in comparisons.items()}
    return {
        comparison: [ComparedJob(one, name) for one, name in zip(compared, chosen[comparison], strict=True)]
        for comparison, compared in comparisons.items()
    }


def describe_comparison(compared: Sequence[ComparedJob]) -> str:
    """Return the name of a comparison: of two jobs the later one against the earlier one, else the first few."""
    names = [one.name for one in compared]
    if len(names) == 2:
        return f"{names[1]} against {names[0]}"
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more} more" if more > 0 else "")


def _choose(ids: Sequence[str], *levels: Mapping[str, str]) -> list[str]:
    """Return the name of each job: of the first level on which no other job of `ids` has it, or else of the last level."""
    chosen: list[str] = []
    counts = [Counter(level.get(one, one) for one in ids) for level in levels]
    for one in ids:
        names = [level.get(one, one) for level in levels]
        chosen.append(next((name for name, count in zip(names, counts, strict=True) if count[name] == 1), names[-1]))
    return chosen


def _minute(time: datetime) -> str:
    return time.strftime("%-d %b %H:%M")
