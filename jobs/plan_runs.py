"""The steps of plans that sweeps take: start runs, compare their audits with the baseline, and announce falls.

However many workers sweep, each step is taken once: the step locks its plan, and its conditions are those of the locked row. A
step that a quota forbids is tried again by the next sweep.
"""

import logging
from collections.abc import Callable, Mapping
from itertools import chain
from typing import Any

from sqlalchemy import ColumnElement, func, select
from sqlalchemy.orm import Session

from faal_client.vocabulary import RunTrigger
from faal_core.errors import FaalError, InvalidSpec
from faal_core.results.comparison_documents import ComparisonReport
from faal_core.results.document import Status
from faal_core.results.documents import AuditReport
from faal_core.results.finetune_documents import Fall
from faal_core.results.reading import newest_audit, read_any_report, read_report
from faal_core.results.trust import doubtful_codes
from faal_core.specs import Policy
from jobs import queries, webhooks
from jobs.clock import now
from jobs.database import DatabaseFailure, Sessions
from jobs.errors import JobCancelled, JobsError, JobStateConflict, ModelNotReady, QuotaExceeded
from jobs.plan_tables import Plan, PlanRun
from jobs.plans import NO_KEY, Submitter, find_newest_version, find_plan, is_overdue, select_versions, start_run
from jobs.settings import Settings
from jobs.states import FINAL, JobKind, JobState, UploadState
from jobs.submission import UPLOADED_DATASET, Submission, require_dataset_ready, submit
from jobs.tables import Dataset, Job, Model, Problem

logger = logging.getLogger(__name__)

MOST_FALLS = 100  # in one message, the largest ones

_Step = Callable[[Session, Settings, Plan], None]
_Doubts = Mapping[str, list[str]]  # codes of warnings, by the accuracy


def advance(sessions: Sessions, settings: Settings) -> None:
    """Take every step of plans that can be taken now. A plan that cannot run is paused with the reason."""
    for condition, step in ((_has_ended_job(), _advance_run), (_needs_run(), _start_run)):
        with sessions() as session:
            plans = session.execute(select(Plan.id, Plan.owner).where(condition).order_by(Plan.id)).all()
        for plan_id, owner in plans:
            _take_step(sessions.for_owner(owner), settings, plan_id, condition, step)


def _take_step(
    sessions: Sessions, settings: Settings, plan_id: str, condition: ColumnElement[bool], step: _Step
) -> None:
    locked = select(Plan).where(Plan.id == plan_id, condition).with_for_update(of=Plan, skip_locked=True)
    try:
        with sessions.begin() as session:
            if (plan := session.scalars(locked).one_or_none()) is not None:
                _take_or_stop(session, settings, plan, step)
    except (QuotaExceeded, ModelNotReady) as reason:  # a model is not ready if it is deleted at this moment
        logger.info("plan %s waits: %s", plan_id, reason.message)
    except DatabaseFailure:
        raise
    except Exception:
        logger.exception("a step of plan %s failed; the next sweep tries again", plan_id)


def _take_or_stop(session: Session, settings: Settings, plan: Plan, step: _Step) -> None:
    """Take a step of a plan that is locked; pause the plan if it cannot run. Raises: QuotaExceeded, ModelNotReady."""
    try:
        step(session, settings, plan)
    except (QuotaExceeded, ModelNotReady):
        raise
    except (FaalError, JobsError) as error:  # the figures that the step has recorded are kept
        logger.warning("plan %s is paused: %s", plan.id, error.message)
        _stop(session, plan, error)


def _stop(session: Session, plan: Plan, error: FaalError | JobsError) -> None:
    """Pause the plan with that error, and end its run."""
    plan.error = {"code": error.code, "message": error.message}
    plan.paused_at = now()
    if plan.run_job_id is not None:
        session.get_one(PlanRun, plan.run_job_id).error = plan.error
        plan.run_job_id = None


# Starts


def _needs_run() -> ColumnElement[bool]:
    """Return the condition that a plan can start a run, or that its model or data set is missing."""
    versions = select(Model.id).where(
        Model.owner == Plan.owner, Model.name == Plan.model_name, Model.state == UploadState.READY
    )
    dataset = select(Dataset.id).where(
        Dataset.owner == Plan.owner, Dataset.id == Plan.dataset, Dataset.state == UploadState.READY
    )
    is_missing = ~versions.exists() | (Plan.dataset.startswith(UPLOADED_DATASET, autoescape=True) & ~dataset.exists())
    has_new_version = versions.where(Model.id > Plan.seen_model_id).exists()
    return Plan.paused_at.is_(None) & Plan.run_job_id.is_(None) & (is_missing | has_new_version | is_overdue())


def _start_run(session: Session, settings: Settings, plan: Plan) -> None:
    """Audit the oldest version that was not audited yet; if there is none, the newest version on schedule."""
    require_dataset_ready(session, plan.dataset)
    newest = find_newest_version(session, plan)
    unseen = select_versions(plan).where(Model.id > plan.seen_model_id).order_by(Model.id).limit(1)
    version = session.scalars(unseen).one_or_none()
    trigger = RunTrigger.SCHEDULE if version is None else RunTrigger.VERSION
    submitter = Submitter(max_priority=plan.max_priority)
    job = start_run(session, settings, plan, trigger, version or newest, submitter)
    logger.info("plan %s: job %s audits model %s (%s)", plan.id, job.id, job.model_id, trigger)


def run_now(session: Session, settings: Settings, plan_id: str, submitter: Submitter = NO_KEY) -> Job:
    """Start a run with the newest version of the model, also of a paused plan, and return its audit. Ring after the commit.

    A run that has ended is recorded first, if no sweep has done so.

    Raises: PlanNotFound; JobStateConflict while a run of the plan has not ended; ModelNotFound; the errors of
        `submission.submit`.
    """
    plan = find_plan(session, plan_id, lock=True)
    if plan.run_job_id is not None:
        _take_or_stop(session, settings, plan, _advance_run)
    if plan.run_job_id is not None:
        raise JobStateConflict(
            f"The last run of plan {plan_id}, the audit {plan.run_job_id} and its comparison, has not ended. "
            "Wait until it has ended, or cancel it."
        )
    return start_run(session, settings, plan, RunTrigger.REQUEST, find_newest_version(session, plan), submitter)


# Ends


def _has_ended_job() -> ColumnElement[bool]:
    """Return the condition that the audit or the comparison for which a plan's run waits has ended, or was deleted."""
    awaited = func.coalesce(PlanRun.comparison_id, PlanRun.job_id)
    unfinished = (
        select(Job.id)
        .join(PlanRun, Job.id == awaited)
        .where(PlanRun.job_id == Plan.run_job_id, Job.state.not_in(FINAL))
    )
    return Plan.run_job_id.is_not(None) & ~unfinished.exists()


def _advance_run(session: Session, settings: Settings, plan: Plan) -> None:
    """Compare the run's audit that has ended with the baseline, or record the comparison that has ended."""
    run = session.get_one(PlanRun, plan.run_job_id)
    job = session.get(Job, run.comparison_id or run.job_id, with_for_update={"read": True})
    if job is not None and job.state not in FINAL:
        return  # or another worker has taken this step
    if job is None or job.state is not JobState.SUCCEEDED:
        run.error, plan.run_job_id = _find_reason(job), None
    elif run.comparison_id is not None:
        _record_comparison(session, plan, run)
    else:
        _compare(session, settings, plan, run, job.priority)


def _find_reason(job: Job | None) -> Problem | None:
    """Return why the job did not succeed; None for a deleted one."""
    if job is None or job.state is not JobState.CANCELLED:
        return None if job is None else job.error
    return {"code": JobCancelled.code, "message": f"Job {job.id} ({job.kind}) was cancelled."}


def _compare(session: Session, settings: Settings, plan: Plan, run: PlanRun, priority: int) -> None:
    """Record the worst class and the mean of the audit and its status by the policy, and compare the audit with the baseline.

    The first audit becomes the baseline, also where the policy cannot judge it.

    Raises: InvalidSpec where the policy names a class or column that the audit lacks.
    """
    audit = newest_audit(read_report(queries.require_report(session, run.job_id).document))
    robust = audit.robust
    run.worst_class = {
        "name": robust.worst_class,
        "rate": robust.worst.value,
        "low": robust.worst.low,
        "high": robust.worst.high,
    }
    run.robust_mean = robust.mean.rate
    plan.baseline_job_id = plan.baseline_job_id or run.job_id
    if (policy := _read_policy(plan)) is not None and policy.baseline is None:
        run.gate = _judge(policy, audit)
    if plan.baseline_job_id == run.job_id:
        plan.run_job_id = None
        return
    comparison = Submission(
        kind=JobKind.COMPARE,
        spec={"jobs": [plan.baseline_job_id, run.job_id]},
        owner=plan.owner,
        priority=priority,
        metadata={"plan": plan.id},
    )
    run.comparison_id = submit(session, settings, comparison).id
    run.baseline_job_id = plan.baseline_job_id


def _record_comparison(session: Session, plan: Plan, run: PlanRun) -> None:
    """Record the verdict and the changes, and announce the accuracies that fell.

    A policy that limits falls is judged now. Raises: InvalidSpec where the audits have other images.
    """
    report = read_any_report(queries.require_report(session, run.comparison_id or "").document)
    assert isinstance(report, ComparisonReport), "two audits were compared"  # noqa: S101
    if report.pairing != "paired":
        raise InvalidSpec(
            f"The audit {run.job_id} cannot be compared with the baseline {run.baseline_job_id} image by image. "
            f"{report.reason} Choose a new baseline, and resume the plan."
        )
    policy = _read_policy(plan)
    doubts = _find_doubts(report, policy)
    run.verdict, run.falls = report.outcome, len(report.falls)
    codes = [doubts[fall.accuracy] for fall in report.falls]
    run.doubtful, run.doubtful_falls = list(dict.fromkeys(chain.from_iterable(codes))), sum(map(bool, codes))
    run.worst_change = report.robust.worst_change.model_dump()
    run.mean_change = report.robust.mean_change.model_dump()
    if report.falls:
        logger.info("plan %s: %d accuracies of model %s fell", plan.id, run.falls, run.model_id)
        webhooks.announce_fall(session, plan.owner, _describe_falls(plan, run, report, doubts))
    if policy is not None and policy.baseline is not None:
        run.gate = _judge(policy, report)
    plan.run_job_id = None


def _read_policy(plan: Plan) -> Policy | None:
    return None if plan.policy is None else Policy.model_validate(plan.policy)


def _judge(policy: Policy, report: AuditReport | ComparisonReport) -> Status:
    """Return the status of the audit, or of a comparison's second audit. Raises: InvalidSpec for unknown names."""
    from faal_core.results.gates.judging import judge_audit  # imported here, since SciPy takes a fraction of a second
    from faal_core.results.gates.pairing import separate

    return judge_audit(policy, *separate(report)).status


def _find_doubts(report: ComparisonReport, policy: Policy | None) -> _Doubts:
    """Return the codes of the warnings that rates of the baseline may be far too high, as a gate of the policy finds them."""
    accepted = () if policy is None else policy.accept_warnings
    return {kind: list(doubtful_codes(report.before, accepted, clean=kind == "clean")) for kind in ("clean", "robust")}


def _describe_falls(plan: Plan, run: PlanRun, report: ComparisonReport, doubts: _Doubts) -> dict[str, Any]:
    """Return the data of the message about the falls, as the client's `FallenAudit` has it."""
    return {
        "object": "fallen-audit",
        "plan": plan.id,
        "plan_name": plan.name,
        "model": run.model_id,
        "model_name": plan.model_name,
        "job": run.job_id,
        "baseline": run.baseline_job_id,
        "comparison": run.comparison_id,
        "confidence": report.confidence,
        "count": len(report.falls),
        "doubtful": run.doubtful,
        "doubtful_count": run.doubtful_falls,
        "falls": [
            _describe_fall(fall, report) | {"doubtful": doubts[fall.accuracy]} for fall in report.falls[:MOST_FALLS]
        ],
    }


def _describe_fall(fall: Fall, report: ComparisonReport) -> dict[str, Any]:
    if fall.name is None:
        before, after = (_mean_rate(audit, fall) for audit in (report.before, report.after))
        p_adjusted = (report.clean_mean if fall.accuracy == "clean" else report.robust_mean).p_adjusted
    else:
        side = report.clean if fall.accuracy == "clean" else report.robust
        row = next(row for row in side.classes if row.name == fall.name)
        before, after, p_adjusted = row.before, row.after, row.p_adjusted
    return {
        "accuracy": fall.accuracy,
        "class": fall.name,
        "before": before,
        "after": after,
        "p_adjusted": p_adjusted,
    }


def _mean_rate(audit: AuditReport, fall: Fall) -> float:
    return (audit.clean if fall.accuracy == "clean" else audit.robust).mean.rate
