"""Plans: audits that run again for each new version of a model, and on a schedule.

The versions of a model are an owner's models of one name, in the order of their ids. A plan has at most one run that has not
ended. `jobs.plan_runs` starts and finishes the runs.
"""

from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Select, delete, func, select
from sqlalchemy.orm import InstrumentedAttribute, Session

from faal_client.vocabulary import RunTrigger
from faal_core.errors import InvalidSpec
from faal_core.results.reading import newest_audit, read_report
from faal_core.specs import AuditSpec
from faal_core.specs.field_errors import shorten
from jobs import queries
from jobs.clock import now, seconds_between
from jobs.errors import JobStateConflict, ModelNotFound, PlanNotFound, QuotaExceeded
from jobs.moves import lock_job
from jobs.paging import Page, read_page
from jobs.plan_tables import Plan, PlanRun
from jobs.quotas import lock_owner
from jobs.settings import MAX_PRIORITY, Settings
from jobs.states import JobKind, JobState, UploadState
from jobs.submission import Submission, require_dataset_ready, submit
from jobs.tables import Job, Model

MOST_PLANS = 50  # of one owner
MOST_NAME_CHARACTERS = 600  # of the names that a message lists
SECONDS_AN_HOUR = 3600.0


class Submitter(NamedTuple):
    """The API key that starts a run: its name, and the highest priority that its jobs may have."""

    key_name: str | None = None
    max_priority: int = MAX_PRIORITY


NO_KEY = Submitter()


def add_plan(
    session: Session,
    settings: Settings,
    *,
    owner: str,
    name: str,
    model_name: str,
    dataset: str,
    spec: Mapping[str, Any],
    policy: Mapping[str, Any] | None = None,
    every_hours: int | None = None,
    submitter: Submitter = NO_KEY,
) -> Plan:
    """Add a plan, start its first run with the newest version of the model, and return the plan. Ring after the commit.

    Raises: QuotaExceeded; ModelNotFound where no model of that name is ready; the errors of `submission.submit`; InvalidSpec
        where the policy names a class or a column of groups that the data set does not have.
    """
    lock_owner(session, owner)
    used = session.scalars(select(func.count(Plan.id)).where(Plan.owner == owner)).one()
    if used >= MOST_PLANS:
        raise QuotaExceeded("plans", MOST_PLANS, used)
    plan = Plan(
        owner=owner,
        name=name,
        model_name=model_name,
        dataset=dataset,
        spec=dict(spec),
        policy=None if policy is None else dict(policy),
        max_priority=submitter.max_priority,
        every_hours=every_hours,
        due_at=None if every_hours is None else now(every_hours * SECONDS_AN_HOUR),
        seen_model_id="",
    )
    session.add(plan)
    session.flush()
    start_run(session, settings, plan, RunTrigger.VERSION, find_newest_version(session, plan), submitter)
    _require_known_names(session, plan)
    return plan


def find_plan(session: Session, plan_id: str, *, lock: bool = False) -> Plan:
    """Return the plan of that id, locked until the transaction ends if `lock` is set. Raises: PlanNotFound."""
    plan = session.get(Plan, plan_id, with_for_update=lock, populate_existing=lock)
    if plan is None:
        raise PlanNotFound(f"There is no plan {plan_id!r}; `GET /plans` lists them.")
    return plan


def list_plans(session: Session, *, after: str | None = None, limit: int = 20) -> Page[Plan]:
    """Return a page of plans, newest first, after the one of that id."""
    return read_page(session, select(Plan), Plan.id, after=after, limit=limit, documents=(Plan.spec, Plan.policy))


def list_runs(session: Session, plan_id: str, *, limit: int) -> list[tuple[PlanRun, JobState | None]]:
    """Return the newest runs of the plan, newest first, each with the state of its audit; None where this was deleted."""
    query = select(PlanRun, Job.state).outerjoin(Job, Job.id == PlanRun.job_id).where(PlanRun.plan_id == plan_id)
    rows = session.execute(query.order_by(PlanRun.job_id.desc()).limit(limit))
    return [(run, state) for run, state in rows]


def list_newest_runs(
    session: Session, plan_ids: Collection[str], *, audited: bool
) -> list[tuple[PlanRun, JobState | None]]:
    """Return the newest run of each of the plans, or the newest one whose audit has succeeded, each as `list_runs` does."""
    newest = select(func.max(PlanRun.job_id)).where(PlanRun.plan_id.in_(plan_ids)).group_by(PlanRun.plan_id)
    if audited:
        newest = newest.where(PlanRun.worst_class.is_not(None))
    query = select(PlanRun, Job.state).outerjoin(Job, Job.id == PlanRun.job_id).where(PlanRun.job_id.in_(newest))
    return [(run, state) for run, state in session.execute(query)]


def remove_plan(session: Session, plan_id: str) -> None:
    """Remove the plan and its history; its jobs stay. Raises: PlanNotFound."""
    plan = find_plan(session, plan_id, lock=True)
    session.execute(delete(PlanRun).where(PlanRun.plan_id == plan_id))
    session.delete(plan)


def pause(session: Session, plan_id: str) -> None:
    """Let the plan start no more runs by itself; a run that was started is finished. Raises: PlanNotFound."""
    plan = find_plan(session, plan_id, lock=True)
    if plan.paused_at is None:
        plan.paused_at = now()
        session.flush()


def resume(session: Session, plan_id: str) -> None:
    """Let a paused plan start runs again. Of the versions that it has missed, it audits the newest one.

    Raises: PlanNotFound.
    """
    plan = find_plan(session, plan_id, lock=True)
    if plan.paused_at is not None:
        newest_first = select_versions(plan).order_by(Model.id.desc())
        previous = session.scalars(newest_first.with_only_columns(Model.id).offset(1).limit(1)).one_or_none()
        plan.seen_model_id = max(plan.seen_model_id, previous or "")
        plan.paused_at = plan.error = None


def set_policy(session: Session, plan_id: str, policy: Mapping[str, Any] | None) -> None:
    """Judge later audits by that policy; by none if it is None.

    Raises: PlanNotFound; InvalidSpec where it names a class or a column of groups that the data set does not have; ModelNotFound
        and the errors of `require_dataset_ready` where the model or the data set was deleted.
    """
    plan = find_plan(session, plan_id, lock=True)
    plan.policy = None if policy is None else dict(policy)
    if policy is not None:
        _require_known_names(session, plan)


def _require_known_names(session: Session, plan: Plan) -> None:
    """Check the names in the policy, if the data set is an uploaded one, whose names are stored. Raises: as `set_policy`.

    An audit names classes as the data set or as the model does.
    """
    summary = require_dataset_ready(session, plan.dataset)
    if plan.policy is None or summary is None:
        return
    classes = [*summary["class_names"], *(find_newest_version(session, plan).spec["class_names"] or ())]
    columns = list(summary.get("groups", plan.policy["min_group"]))
    for field, kind, names in (("min_class", "class", classes), ("min_group", "column of groups", columns)):
        for name in plan.policy[field]:
            if name not in names:
                known = shorten(", ".join(dict.fromkeys(map(repr, names))), MOST_NAME_CHARACTERS) or "none"
                raise InvalidSpec(
                    f"{field}: the data set {plan.dataset} has no {kind} {shorten(name, 60)!r}; it has {known}."
                )


def set_baseline(session: Session, plan_id: str, job_id: str) -> None:
    """Let later runs be compared with that audit.

    Raises: PlanNotFound, JobNotFound; JobStateConflict where the job is no audit that has succeeded; OutcomesNotFound;
        InvalidSpec where it is incomplete, or its data set or its settings are not those of the plan.
    """
    plan, job = find_plan(session, plan_id, lock=True), lock_job(session, job_id)
    if job.kind is not JobKind.AUDIT or job.state is not JobState.SUCCEEDED:
        raise JobStateConflict(f"Job {job_id} is {job.kind} and {job.state}. Choose an audit that has succeeded.")
    if job.dataset != plan.dataset or AuditSpec.model_validate(job.spec) != AuditSpec.model_validate(plan.spec):
        raise InvalidSpec(
            f"The audit {job_id} has another data set or other settings than the plan. Choose an audit with the same."
        )
    if not newest_audit(read_report(queries.require_report(session, job_id).document)).complete:
        raise InvalidSpec(
            f"The audit {job_id} is incomplete, since its time ran out. Audit again without a limit of time."
        )
    queries.find_outcomes(session, job_id)
    plan.baseline_job_id = job_id


def is_baseline(job_id: str | InstrumentedAttribute[str]) -> ColumnElement[bool]:
    """Return the condition that a plan compares its runs with the job."""
    return select(Plan.id).where(Plan.baseline_job_id == job_id).exists()


def start_run(
    session: Session, settings: Settings, plan: Plan, trigger: RunTrigger, version: Model, submitter: Submitter
) -> Job:
    """Submit the audit of that version for a plan that is locked and has no run, and return it. Ring after the commit.

    A run of the newest version replaces an overdue scheduled run. Raises: the errors of `submission.submit`.
    """
    submission = Submission(
        kind=JobKind.AUDIT,
        model_id=version.id,
        dataset=plan.dataset,
        spec=plan.spec,
        owner=plan.owner,
        submitted_by=submitter.key_name,
        max_priority=submitter.max_priority,
        metadata={"plan": plan.id},
    )
    job = submit(session, settings, submission)
    session.add(PlanRun(job_id=job.id, plan_id=plan.id, owner=plan.owner, model_id=version.id, trigger=trigger))
    plan.run_job_id, plan.seen_model_id = job.id, max(plan.seen_model_id, version.id)
    if plan.every_hours is not None and version.id == find_newest_version(session, plan).id:
        period = plan.every_hours * SECONDS_AN_HOUR
        overdue = select(seconds_between(Plan.due_at, now())).where(Plan.id == plan.id, is_overdue())
        if (late := session.scalars(overdue).one_or_none()) is not None:
            plan.due_at = now(period - late % period)
    return job


def is_overdue() -> ColumnElement[bool]:
    """Return the condition that a scheduled run must start now.

    A time that is further away than a whole period was set before the database's clock was set back, and counts too.
    """
    left = seconds_between(now(), Plan.due_at)
    return (left <= 0) | (left > Plan.every_hours * SECONDS_AN_HOUR + 60)


def select_versions(plan: Plan) -> Select[Model]:
    """Return the query of the plan's versions that can be audited."""
    return select(Model).where(
        Model.owner == plan.owner, Model.name == plan.model_name, Model.state == UploadState.READY
    )


def find_newest_version(session: Session, plan: Plan) -> Model:
    """Return the newest version that can be audited. Raises: ModelNotFound."""
    model = session.scalars(select_versions(plan).order_by(Model.id.desc()).limit(1)).one_or_none()
    if model is None:
        raise ModelNotFound(
            f"No model named {plan.model_name!r} is ready. Upload one, and wait until its check has ended."
        )
    return model
