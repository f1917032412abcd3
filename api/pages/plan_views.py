"""The data that the pages of plans show."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from api.pages.curves import Curve, curves_of_runs
from api.serving import plans
from api.serving.dependencies import Service
from faal_client.resources.plans import PlanHistory, PlanResource, PlanRunResource
from faal_core.specs.policy import Policy
from jobs import dataset_registry, model_registry
from jobs.plans import MOST_PLANS
from jobs.states import JobState

AWAITED = (JobState.QUEUED, JobState.RUNNING, JobState.PAUSED)


@dataclass(frozen=True, slots=True)
class PlanView:
    """A plan, the name of its data set, and its newest runs.

    Args:
        newest: newest run, whose audit may not have ended.
        audited: newest run whose audit has succeeded.
    """

    plan: PlanResource
    dataset: str
    newest: PlanRunResource | None
    audited: PlanRunResource | None

    @property
    def running(self) -> bool:
        """Return whether a run has not ended, so that the state may change by itself."""
        return self.plan.current_run is not None

    @property
    def stage(self) -> str:
        """Return what the plan does now as text."""
        if not self.running or self.newest is None or self.newest.status is None:
            return ""
        return f"audit {self.newest.status}" if self.newest.status in AWAITED else "comparing"

    @property
    def running_key(self) -> str:
        """Return a text that changes when the button that starts a run must be shown or hidden."""
        return str(self.running)

    @property
    def paused_key(self) -> str:
        """Return a text that changes when the plan is paused or resumed, or when the reason changes."""
        return f"{self.plan.paused_at}.{self.plan.error and self.plan.error.code}"

    @property
    def policy(self) -> dict[str, Any] | None:
        """Return the fields of the policy that are set."""
        stored = self.plan.policy
        return None if stored is None else Policy.model_validate(stored).model_dump(mode="json", exclude_defaults=True)

    @property
    def policy_json(self) -> str:
        """Return the text of a policy file as a JSON string, in which the page of limits reads it."""
        return json.dumps(json.dumps(self.policy, ensure_ascii=False, indent=2), ensure_ascii=False)

    def find_judged_job(self, run: PlanRunResource) -> str | None:
        """Return the job whose report the policy judges: the comparison if the policy limits falls, else the audit."""
        compares = self.policy is not None and "baseline" in self.policy
        return run.comparison if compares else run.job

    @property
    def schedule(self) -> str:
        """Return when the plan runs as text."""
        hours = self.plan.every_hours
        if hours is None:
            return "each new version"
        return f"each new version, and every {'hour' if hours == 1 else f'{hours:,} hours'}"


@dataclass(frozen=True, slots=True)
class HistoryView:
    """The runs of a plan, newest first, the times at which their models were added, and the lines of the chart.

    Args:
        charted: runs of the chart, oldest first.
    """

    runs: Sequence[PlanRunResource]
    added: Mapping[str, datetime]
    charted: Sequence[PlanRunResource]
    curves: Sequence[Curve]

    @property
    def key(self) -> str:
        """Return a text that changes when a run changes."""
        return hashlib.sha256("".join(run.model_dump_json() for run in self.runs).encode()).hexdigest()[:16]


class PlanPage(NamedTuple):
    """A page of plans, and the id of the last plan if there are more."""

    views: Sequence[PlanView]
    following: str | None


def list_plans(service: Service, after: str | None) -> PlanPage:
    """Return the plans with their newest runs."""
    page = plans.list_plans(service, after=after, limit=MOST_PLANS)
    ids = [plan.id for plan in page.data]
    newest, audited = (plans.list_newest_runs(service, ids, audited=audited) for audited in (False, True))
    names = _name_datasets(service, page.data)
    views = [PlanView(plan, names[plan.dataset], newest.get(plan.id), audited.get(plan.id)) for plan in page.data]
    return PlanPage(views, page.last_id if page.has_more else None)


def get_plan(service: Service, plan_id: str) -> tuple[PlanView, HistoryView]:
    """Return a plan and its history. Raises: PlanNotFound."""
    plan = plans.get_plan(service, plan_id)
    audited = [run for run in plan.runs if run.worst_class is not None]
    view = PlanView(plan, _name_datasets(service, [plan])[plan.dataset], _first(plan.runs), _first(audited))
    return view, _describe_history(service, plan, audited[::-1])


def _describe_history(service: Service, plan: PlanHistory, charted: Sequence[PlanRunResource]) -> HistoryView:
    with service.sessions() as session:
        added = model_registry.find_creation_times(session, {run.model for run in plan.runs})
    return HistoryView(plan.runs, added, charted, curves_of_runs(charted))


def _first(runs: Sequence[PlanRunResource]) -> PlanRunResource | None:
    return runs[0] if runs else None


def _name_datasets(service: Service, listed: Sequence[PlanResource]) -> Mapping[str, str]:
    """Return the names of the plans' data sets, by the reference in the plan."""
    references = {plan.dataset for plan in listed}
    with service.sessions() as session:
        return {one: one for one in references} | dict(dataset_registry.find_names(session, references))
