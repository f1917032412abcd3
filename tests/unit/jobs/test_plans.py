"""Plans: which runs start and when, what becomes the baseline, and which falls are announced."""

import json
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
from sqlalchemy import select, update

from faal_client.resources.webhooks import Announcement
from faal_core.errors import InvalidSpec
from faal_core.results.audit_comparison import compare_audits
from faal_core.results.documents import ReliabilityWarning
from faal_core.results.outcomes import PARQUET_TYPE
from faal_core.results.reading import OUTCOMES, StoredAudit, newest_audit
from faal_core.specs import AuditSpec, Policy
from jobs import control, dataset_registry, lifecycle, model_registry, paging, plan_runs, plans, removal, webhooks
from jobs.clock import now, seconds_between
from jobs.errors import (
    InUse,
    JobNotFound,
    JobStateConflict,
    ModelNotFound,
    OutcomesNotFound,
    PlanNotFound,
    QuotaExceeded,
)
from jobs.plan_tables import Plan, PlanRun
from jobs.states import JobKind, JobState
from jobs.storage import StoredFile
from jobs.tables import Job, WebhookMessage
from tests.job_steps import SITE, SPEC, UPLOAD, add_ready_model, claim_job, load_job, queue_audit, submit_job
from tests.sample_reports import ROBUST_BEFORE, sample_outcomes

AUDIT = AuditSpec.model_validate({"threat": {"epsilon": "8/255"}, "attacks": "quick"}).model_dump(mode="json")
POLICY = Policy(min_worst=0.1).model_dump(mode="json")
GOOD = StoredAudit(*sample_outcomes(images=100))
EQUAL = StoredAudit(*sample_outcomes(images=100, seed=2))
WORSE = StoredAudit(*sample_outcomes(images=100, robust=(*ROBUST_BEFORE[:9], 0.3)))
LESS_ROBUST = StoredAudit(
    *sample_outcomes(images=100, robust=(*ROBUST_BEFORE[:9], 0.6))
)  # and as accurate on clean images
PARQUET = StoredFile("e" * 64, 9, PARQUET_TYPE)
HOUR = 3600


def add_plan(sessions, *, owner="ann", site=SITE, **fields) -> str:
    """Add a plan for the models named "digits", and return its id."""
    fields = {"name": "nightly", "model_name": "digits", "dataset": "fashion-mnist-subset", "spec": AUDIT} | fields
    with sessions.for_owner(owner).begin() as session:
        return plans.add_plan(session, site, owner=owner, **fields).id


def sweep(sessions, site=SITE) -> None:
    """Take the steps of plans as a sweep does."""
    plan_runs.advance(sessions, site)


def load_plan(sessions, plan_id) -> Plan:
    """Return the plan's current row."""
    with sessions() as session:
        return plans.find_plan(session, plan_id)


def load_runs(sessions, plan_id) -> list[PlanRun]:
    """Return the plan's runs, oldest first."""
    with sessions() as session:
        return [run for run, _ in plans.list_runs(session, plan_id, limit=100)][::-1]


def change(sessions, plan_id, **values) -> None:
    """Change columns of the plan."""
    with sessions.begin() as session:
        session.execute(update(Plan).where(Plan.id == plan_id).values(values))


def call(sessions, function, *arguments):
    """Call a function of `plans` in a transaction of ann."""
    with sessions.for_owner("ann").begin() as session:
        return function(session, *arguments)


def finish(sessions, job_id, audit=GOOD) -> str:
    """Let the queued audit succeed with that report, and return its id."""
    claim_job(sessions, job_id)
    with sessions.begin() as session:
        lifecycle.succeed(
            session, job_id, 1, report=audit.report.model_dump_json(), outcomes={OUTCOMES["audit"]: PARQUET}
        )
    return job_id


def finish_run(sessions, plan_id, audit=GOOD, *, before=GOOD) -> PlanRun:
    """Let the plan's audit succeed, and its comparison with `before` if there is one; return the run."""
    job_id = finish(sessions, load_plan(sessions, plan_id).run_job_id, audit)
    sweep(sessions)
    run = load_runs(sessions, plan_id)[-1]
    if run.comparison_id is not None:
        claim_job(sessions, run.comparison_id)
        with sessions.begin() as session:
            report = compare_audits(before, audit).model_dump_json()
            lifecycle.succeed(session, run.comparison_id, 1, report=report)
        sweep(sessions)
    return next(run for run in load_runs(sessions, plan_id) if run.job_id == job_id)


def read_messages(sessions) -> list[dict]:
    """Return the bodies of the messages about falls."""
    with sessions() as session:
        query = select(WebhookMessage.body).where(WebhookMessage.kind == "audit.fell").order_by(WebhookMessage.id)
        return [json.loads(body) for body in session.scalars(query)]


@pytest.mark.parametrize("code", ["zero-gradient", "few-restarts"])
@pytest.mark.parametrize(("audit", "accepts"), [(LESS_ROBUST, False), (WORSE, False), (LESS_ROBUST, True)])
def test_a_fall_from_a_baseline_that_may_be_too_high_is_in_doubt(sessions, model_id, code, audit, accepts):
    """Run and message have the warnings about the baseline and the number of doubtful falls, and agree with the gate."""
    warning = ReliabilityWarning(code=code, message="m", evidence="e", advice="a")
    baseline = StoredAudit(GOOD.report.model_copy(update={"warnings": (warning,)}), GOOD.outcomes)
    policy = Policy(baseline={}, accept_warnings=["zero-gradient"] if accepts else [])
    with sessions.begin() as session:
        webhooks.add_webhook(session, owner="ann", url="https://example.com/")
    plan_id = add_plan(sessions, policy=policy.model_dump(mode="json"))
    assert finish_run(sessions, plan_id, baseline).doubtful is None
    add_ready_model(sessions)
    sweep(sessions)
    run = finish_run(sessions, plan_id, audit, before=baseline)
    doubts = [code] if code == "zero-gradient" and not accepts else []
    assert (run.verdict, run.doubtful) == ("worse", doubts)
    data = Announcement.model_validate(read_messages(sessions)[0]).data
    assert (data.count, data.doubtful, data.doubtful_count) == (run.falls, run.doubtful, run.doubtful_falls)
    assert {fall.accuracy for fall in data.falls} == ({"robust"} if audit is LESS_ROBUST else {"clean", "robust"})
    for fall in data.falls:
        assert fall.doubtful == (doubts if fall.accuracy == "robust" else [])
    assert run.doubtful_falls == sum(bool(fall.doubtful) for fall in data.falls)
    assert run.gate == ("undecided" if run.doubtful_falls == run.falls else "fail")


def test_a_fall_of_a_new_version_is_announced_and_noise_is_not(sessions, model_id):
    """The first audit is the baseline; an equal version sends no message, and a worse one sends one with all numbers."""
    with sessions.begin() as session:
        webhooks.add_webhook(session, owner="ann", url="https://example.com/")
        webhooks.add_webhook(session, owner="ben", url="https://example.com/")
    plan_id = add_plan(sessions)
    first = finish_run(sessions, plan_id)
    plan = load_plan(sessions, plan_id)
    assert (first.model_id, first.trigger, first.comparison_id) == (model_id, "version", None)
    assert (plan.baseline_job_id, plan.run_job_id) == (first.job_id, None)
    assert first.worst_class == {
        "name": "shirt",
        "rate": GOOD.report.robust.worst.value,
        "low": GOOD.report.robust.worst.low,
        "high": GOOD.report.robust.worst.high,
    }
    sweep(sessions)
    assert len(load_runs(sessions, plan_id)) == 1

    add_ready_model(sessions)
    sweep(sessions)
    equal = finish_run(sessions, plan_id, EQUAL)
    assert (equal.baseline_job_id, equal.verdict, equal.falls) == (first.job_id, "unclear", 0)
    assert read_messages(sessions) == []

    worse_model = add_ready_model(sessions)
    sweep(sessions)
    worse = finish_run(sessions, plan_id, WORSE)
    report = compare_audits(GOOD, WORSE)
    assert (worse.model_id, worse.verdict, worse.falls) == (worse_model, "worse", len(report.falls))
    assert worse.robust_mean == report.after.robust.mean.rate
    assert (worse.worst_change, worse.mean_change) == (
        report.robust.worst_change.model_dump(),
        report.robust.mean_change.model_dump(),
    )
    (message,) = read_messages(sessions)
    data = Announcement.model_validate(message).data
    assert (data.plan, data.plan_name, data.model, data.job) == (plan_id, "nightly", worse_model, worse.job_id)
    assert (data.baseline, data.comparison, data.count) == (first.job_id, worse.comparison_id, len(report.falls))
    mean, boots = data.falls[0], next(fall for fall in data.falls if fall.class_name == "ankle boot")
    assert (mean.class_name, mean.before, mean.after) == (
        None,
        report.before.robust.mean.rate,
        report.after.robust.mean.rate,
    )
    row = report.robust.classes[9]
    assert (boots.accuracy, boots.before, boots.after, boots.p_adjusted) == (
        "robust",
        row.before,
        row.after,
        row.p_adjusted,
    )
    sweep(sessions)
    assert len(read_messages(sessions)) == 1
    assert load_job(sessions, worse.job_id).metadata_ == {"plan": plan_id}
    call(sessions, plan_runs.run_now, SITE, plan_id)
    with sessions() as session:
        ((run, state),) = plans.list_newest_runs(session, [plan_id], audited=False)
        ((audited, _),) = plans.list_newest_runs(session, [plan_id], audited=True)
    assert (run.trigger, state, audited.job_id) == ("request", "queued", worse.job_id)


def test_each_audit_is_judged_by_the_policy(sessions, model_id):
    """Each run states whether its audit meets the policy; a policy about an unknown class pauses the plan with the reason."""
    plan_id = add_plan(sessions, policy={"min_class": {"ankle boot": 0.6}})
    assert finish_run(sessions, plan_id).gate == "pass"
    call(sessions, plan_runs.run_now, SITE, plan_id)
    assert finish_run(sessions, plan_id, WORSE).gate == "fail"
    wrong = add_plan(sessions, policy={"min_class": {"skirt": 0.6}})
    run = finish_run(sessions, wrong)
    assert (run.error["code"], run.worst_class["name"], run.gate) == ("invalid-spec", "shirt", None)
    plan = load_plan(sessions, wrong)
    assert ("skirt" in plan.error["message"], plan.baseline_job_id, plan.run_job_id) == (True, run.job_id, None)
    call(sessions, plans.set_policy, wrong, POLICY | {"min_class": {"ankle boot": 0.6}})
    call(sessions, plans.resume, wrong)
    plan = load_plan(sessions, wrong)
    assert (plan.error, plan.paused_at) == (None, None)
    call(sessions, plan_runs.run_now, SITE, wrong)
    assert finish_run(sessions, wrong, WORSE).gate == "fail"
    relative = add_plan(sessions, policy={"baseline": {"tolerance": 0.05}})
    assert finish_run(sessions, relative).gate is None
    for audit, status in ((GOOD, "pass"), (WORSE, "fail")):
        call(sessions, plan_runs.run_now, SITE, relative)
        assert finish_run(sessions, relative, audit).gate == status


def test_a_policy_that_cannot_be_judged_after_a_comparison_keeps_its_figures(sessions, model_id):
    """The verdict, the falls and the message remain; the plan pauses with the reason."""
    with sessions.begin() as session:
        webhooks.add_webhook(session, owner="ann", url="https://example.com/")
    plan_id = add_plan(sessions, policy={"baseline": {"tolerance": 0.05}, "min_class": {"skirt": 0.6}})
    finish_run(sessions, plan_id)
    call(sessions, plan_runs.run_now, SITE, plan_id)
    run = finish_run(sessions, plan_id, WORSE)
    assert (run.error["code"], run.verdict, run.gate, run.worst_class is None) == ("invalid-spec", "worse", None, False)
    assert (run.falls, load_plan(sessions, plan_id).paused_at is None) == (
        read_messages(sessions)[0]["data"]["count"],
        False,
    )


def test_the_names_in_a_policy_are_those_of_an_uploaded_data_set(sessions, model_id):
    """A policy that names an unknown class or column of groups is refused, for a new plan and for an existing one."""
    with sessions.begin() as session:
        dataset, check = dataset_registry.register_upload(session, name="own", upload=UPLOAD, owner="ann")
        lifecycle.claim(session, check.id, worker="w", lease_seconds=60)
        summary = {
            "shape": [1, 28, 28],
            "class_names": list("0123456789"),
            "images": {"test": 9},
            "groups": {"camera": ["a"]},
        }
        lifecycle.succeed(session, check.id, 1, summary=summary)
    plan_id = add_plan(
        sessions, dataset=dataset.id, policy=POLICY | {"min_class": {"7": 0.1}, "min_group": {"camera": 0.1}}
    )
    with sessions() as session:
        jobs = session.scalars(select(Job.id)).all()
    for field, name, known in (("min_class", "10", "'0', '1'"), ("min_group", "lens", "'camera'")):
        with pytest.raises(InvalidSpec, match=f"{field}: .*{name}.*{known}"):
            add_plan(sessions, dataset=dataset.id, policy=POLICY | {field: {name: 0.1}})
        with pytest.raises(InvalidSpec, match=name):
            call(sessions, plans.set_policy, plan_id, POLICY | {field: {name: 0.1}})
    with sessions() as session:
        assert session.scalars(select(Job.id)).all() == jobs
    assert load_plan(sessions, plan_id).policy["min_group"] == {"camera": 0.1}


def test_runs_have_the_priority_that_the_key_allows(sessions, model_id):
    """A requested run names its key; later runs and comparisons have the priority of the plan's key, and no name."""
    plan_id = add_plan(sessions, submitter=plans.Submitter("slow", -5))
    finish_run(sessions, plan_id)
    add_ready_model(sessions)
    sweep(sessions)
    swept = finish_run(sessions, plan_id)
    call(sessions, plan_runs.run_now, SITE, plan_id, plans.Submitter("slower", -7))
    requested = finish_run(sessions, plan_id)
    expected = ("slow", -5), (None, -5), (None, -5), ("slower", -7), (None, -7)
    first = load_plan(sessions, plan_id).baseline_job_id
    ids = first, swept.job_id, swept.comparison_id, requested.job_id, requested.comparison_id
    rows = [load_job(sessions, job_id) for job_id in ids]
    assert [(job.submitted_by, job.priority) for job in rows] == list(expected)


def test_long_policies_end_a_page_early(sessions, model_id, monkeypatch):
    """The size of a page of plans counts their policies."""
    monkeypatch.setattr(paging, "PAGE_CHARACTERS", 5_000)
    for _ in range(3):
        add_plan(sessions, policy=POLICY | {"accept_warnings": ["a" * 4_000]})
    with sessions.for_owner("ann")() as session:
        page = plans.list_plans(session)
    assert (len(page.data), page.has_more) == (1, True)


def test_sweeps_at_once_take_each_step_once(sessions, model_id):
    """Eight sweeps at once submit one audit for a due time, one for a new version, and one comparison."""
    plan_id = add_plan(sessions, every_hours=24)
    finish_run(sessions, plan_id)

    def sweep_together() -> None:
        barrier = Barrier(8)

        def run(_: int) -> None:
            barrier.wait()
            sweep(sessions)

        with ThreadPoolExecutor(8) as threads:
            list(threads.map(run, range(8)))

    change(sessions, plan_id, due_at=now(-1))
    sweep_together()
    assert [run.trigger for run in load_runs(sessions, plan_id)] == ["version", "schedule"]
    finish(sessions, load_plan(sessions, plan_id).run_job_id)
    sweep_together()
    with sessions() as session:
        kinds = sorted(session.scalars(select(Job.kind).where(Job.kind.in_((JobKind.AUDIT, JobKind.COMPARE)))))
    assert kinds == [JobKind.AUDIT, JobKind.AUDIT, JobKind.COMPARE]
    with sessions.begin() as session:
        control.cancel(session, load_runs(sessions, plan_id)[-1].comparison_id)
    add_ready_model(sessions)
    sweep_together()
    assert [run.trigger for run in load_runs(sessions, plan_id)] == ["version", "schedule", "version"]


def test_a_schedule_survives_outages_and_clocks(sessions, model_id):
    """Missed times run once and keep the schedule's phase; a due time beyond a whole period runs, as the clock was set back."""
    plan_id = add_plan(sessions, every_hours=2)
    finish_run(sessions, plan_id)

    def until_next() -> float:
        with sessions() as session:
            return session.scalars(select(seconds_between(now(), Plan.due_at))).one()

    assert until_next() == pytest.approx(2 * HOUR, abs=60)
    for late, left in ((100, 2 * HOUR - 100), (9.5 * HOUR, 0.5 * HOUR), (-99.5 * HOUR, 1.5 * HOUR), (-3 * HOUR, HOUR)):
        count = len(load_runs(sessions, plan_id))
        change(sessions, plan_id, due_at=now(-late))
        sweep(sessions)
        assert load_runs(sessions, plan_id)[-1].trigger == "schedule"
        finish_run(sessions, plan_id)
        sweep(sessions)
        assert len(load_runs(sessions, plan_id)) == count + 1
        assert until_next() == pytest.approx(left, abs=60)
    change(sessions, plan_id, due_at=now(1.9 * HOUR))
    sweep(sessions)
    assert load_plan(sessions, plan_id).run_job_id is None


def test_every_version_is_audited_in_turn_and_no_other_model(sessions, model_id):
    """Versions are audited one after the other, oldest first; models of other names and owners, or not ready, are not."""
    plan_id = add_plan(sessions, every_hours=1)
    second, third = add_ready_model(sessions), add_ready_model(sessions)
    add_ready_model(sessions, name="letters")
    add_ready_model(sessions, owner="ben")
    with sessions.begin() as session:
        model_registry.register_upload(session, name="digits", spec=SPEC, upload=UPLOAD, owner="ann")
    change(sessions, plan_id, due_at=now(-1))
    sweep(sessions)
    assert len(load_runs(sessions, plan_id)) == 1
    for _ in range(3):
        finish_run(sessions, plan_id)
    assert [run.model_id for run in load_runs(sessions, plan_id)] == [model_id, second, third]
    assert load_plan(sessions, plan_id).run_job_id is None


def test_a_paused_plan_catches_up_with_the_newest_version(sessions, model_id):
    """A paused plan runs on request alone; when it is resumed it audits the newest version that it has missed, once."""
    plan_id = add_plan(sessions, every_hours=1)
    finish_run(sessions, plan_id)
    call(sessions, plans.pause, plan_id)
    paused_at = load_plan(sessions, plan_id).paused_at
    call(sessions, plans.pause, plan_id)
    assert load_plan(sessions, plan_id).paused_at == paused_at
    missed = [add_ready_model(sessions) for _ in range(3)]
    change(sessions, plan_id, due_at=now(-1))
    sweep(sessions)
    assert load_plan(sessions, plan_id).run_job_id is None
    call(sessions, plans.resume, plan_id)
    sweep(sessions)
    finish_run(sessions, plan_id)
    sweep(sessions)
    assert [run.model_id for run in load_runs(sessions, plan_id)] == [model_id, missed[-1]]

    call(sessions, plans.pause, plan_id)
    job = call(sessions, plan_runs.run_now, SITE, plan_id)
    assert (job.model_id, load_runs(sessions, plan_id)[-1].trigger) == (missed[-1], "request")
    with pytest.raises(JobStateConflict, match=job.id):
        call(sessions, plan_runs.run_now, SITE, plan_id)
    finish_run(sessions, plan_id)
    assert load_plan(sessions, plan_id).run_job_id is None


def test_a_plan_whose_model_or_data_set_was_deleted_is_paused(sessions, model_id):
    """A plan says that its model or its data set was deleted, and starts nothing until it is resumed."""
    with sessions.begin() as session:
        dataset, check = dataset_registry.register_upload(session, name="own", upload=UPLOAD, owner="ann")
        lifecycle.claim(session, check.id, worker="w", lease_seconds=60)
        summary = {"shape": [1, 28, 28], "class_names": list("0123456789"), "images": {"test": 9}}
        lifecycle.succeed(session, check.id, 1, summary=summary)
    on_data, on_model = add_plan(sessions, dataset=dataset.id), add_plan(sessions)
    for plan_id in (on_data, on_model):
        finish_run(sessions, plan_id)
    call(sessions, removal.remove_dataset, dataset.id)
    sweep(sessions)
    plan = load_plan(sessions, on_data)
    assert (plan.paused_at is not None, plan.error["code"]) == (True, "dataset-not-ready")
    assert "was deleted" in plan.error["message"]
    assert load_plan(sessions, on_model).paused_at is None

    call(sessions, removal.remove_model, model_id)
    sweep(sessions)
    plan = load_plan(sessions, on_model)
    assert (plan.paused_at is not None, plan.error["code"]) == (True, "model-not-found")
    again = add_ready_model(sessions)
    sweep(sessions)
    assert len(load_runs(sessions, on_model)) == 1
    call(sessions, plans.resume, on_model)
    sweep(sessions)
    plan = load_plan(sessions, on_model)
    assert (plan.paused_at, plan.error, load_runs(sessions, on_model)[-1].model_id) == (None, None, again)


def test_a_quota_delays_runs(sessions, model_id):
    """A run that a quota forbids starts when the owner has room again, once."""
    full = SITE.model_copy(update={"quota_jobs": 1})
    plan_id = add_plan(sessions, every_hours=1)
    finish_run(sessions, plan_id)
    other = queue_audit(sessions, model_id)
    for _ in range(3):
        change(sessions, plan_id, due_at=now(-1))
        sweep(sessions, full)
    plan = load_plan(sessions, plan_id)
    assert (plan.run_job_id, plan.paused_at, plan.error) == (None, None, None)
    finish(sessions, other)
    sweep(sessions, full)
    assert len(load_runs(sessions, plan_id)) == 2
    finish(sessions, load_plan(sessions, plan_id).run_job_id)
    other = queue_audit(sessions, model_id, seed=1)
    sweep(sessions, full)
    assert load_runs(sessions, plan_id)[-1].comparison_id is None
    finish(sessions, other)
    sweep(sessions, full)
    assert load_runs(sessions, plan_id)[-1].comparison_id is not None


def test_a_defect_in_one_plan_does_not_stop_the_others(sessions, model_id, monkeypatch):
    """A step that fails unexpectedly changes nothing, and is taken by a later sweep; the steps of other plans are taken."""
    broken, other = add_plan(sessions), add_plan(sessions)
    for plan_id in (broken, other):
        finish(sessions, load_plan(sessions, plan_id).run_job_id)
    with monkeypatch.context() as patch:
        defects = iter([RuntimeError("a defect")])
        read = newest_audit

        def read_once_broken(report):
            for defect in defects:
                raise defect
            return read(report)

        patch.setattr(plan_runs, "newest_audit", read_once_broken)
        sweep(sessions)
    assert load_plan(sessions, broken).run_job_id is not None
    assert load_plan(sessions, other).baseline_job_id is not None
    sweep(sessions)
    plan = load_plan(sessions, broken)
    assert (plan.run_job_id, plan.paused_at, plan.baseline_job_id is not None) == (None, None, True)


def test_an_owner_has_a_limited_number_of_plans(sessions, model_id, monkeypatch):
    """A plan beyond the limit, for an unknown model, or with a data set that does not fit is refused, and adds nothing."""
    monkeypatch.setattr(plans, "MOST_PLANS", 2)
    with pytest.raises(ModelNotFound, match="letters"):
        add_plan(sessions, model_name="letters")
    with pytest.raises(InvalidSpec, match="channels"):
        add_plan(sessions, dataset="cifar10")
    for _ in range(2):
        add_plan(sessions)
    with pytest.raises(QuotaExceeded, match=r"2 plans; the limit is 2\. Delete one\."):
        add_plan(sessions)
    add_ready_model(sessions, owner="ben")
    add_plan(sessions, owner="ben")
    with sessions.for_owner("ann")() as session:
        assert len(plans.list_plans(session).data) == 2


def test_a_run_is_recorded_before_the_next_one_starts(sessions, model_id):
    """A run that has ended in any way is recorded by a request for the next one, without a sweep."""
    plan_id = add_plan(sessions)
    call(sessions, control.cancel, load_plan(sessions, plan_id).run_job_id)
    failing = call(sessions, plan_runs.run_now, SITE, plan_id).id
    claim_job(sessions, failing)
    with sessions.begin() as session:
        lifecycle.fail(session, failing, 1, code="out-of-memory", message="Full.")
    first = call(sessions, plan_runs.run_now, SITE, plan_id).id
    finish(sessions, first)
    second = call(sessions, plan_runs.run_now, SITE, plan_id).id
    assert load_plan(sessions, plan_id).baseline_job_id == first
    finish(sessions, second)
    with pytest.raises(JobStateConflict, match="comparison"):
        call(sessions, plan_runs.run_now, SITE, plan_id)
    errors = [run.error and run.error["code"] for run in load_runs(sessions, plan_id)]
    assert errors == ["job-cancelled", "out-of-memory", None, None]


def test_a_plan_without_its_policy_judges_no_audit(sessions, model_id):
    """After the policy was removed, an audit has no gate."""
    plan_id = add_plan(sessions, policy=POLICY)
    call(sessions, plans.set_policy, plan_id, None)
    run = finish_run(sessions, plan_id)
    assert (run.gate, load_plan(sessions, plan_id).policy) == (None, None)


def test_a_run_that_fails_is_no_baseline(sessions, model_id):
    """An audit that fails, is cancelled or deleted ends its run; the first audit that succeeds is the baseline."""
    plan_id = add_plan(sessions)
    claim_job(sessions, load_plan(sessions, plan_id).run_job_id)
    with sessions.begin() as session:
        lifecycle.fail(session, load_runs(sessions, plan_id)[0].job_id, 1, code="out-of-memory", message="Full.")
    sweep(sessions)
    for remove in (False, True):
        job_id = call(sessions, plan_runs.run_now, SITE, plan_id).id
        with sessions.begin() as session:
            control.cancel(session, job_id)
            if remove:
                removal.remove_job(session, job_id)
        sweep(sessions)
    plan = load_plan(sessions, plan_id)
    assert (plan.run_job_id, plan.baseline_job_id, plan.paused_at) == (None, None, None)
    assert [run.error and run.error["code"] for run in load_runs(sessions, plan_id)] == [
        "out-of-memory",
        "job-cancelled",
        None,
    ]
    assert "was cancelled" in load_runs(sessions, plan_id)[1].error["message"]
    call(sessions, plan_runs.run_now, SITE, plan_id)
    assert finish_run(sessions, plan_id).job_id == load_plan(sessions, plan_id).baseline_job_id
    with sessions() as session:
        states = [state for _, state in plans.list_runs(session, plan_id, limit=100)]
    assert states == [JobState.SUCCEEDED, None, JobState.CANCELLED, JobState.FAILED]


def test_audits_of_other_images_pause_the_plan(sessions, model_id):
    """If the audited images are not those of the baseline, the plan says so, pauses, and announces nothing."""
    changed = GOOD.report.dataset.model_copy(update={"sha256": "00" * 32})
    other = StoredAudit(WORSE.report.model_copy(update={"dataset": changed}), None)
    with sessions.begin() as session:
        webhooks.add_webhook(session, owner="ann", url="https://example.com/")
    plan_id = add_plan(sessions)
    finish_run(sessions, plan_id)
    call(sessions, plan_runs.run_now, SITE, plan_id)
    run = finish_run(sessions, plan_id, other)
    plan = load_plan(sessions, plan_id)
    assert (plan.run_job_id, plan.paused_at is not None, run.verdict) == (None, True, None)
    assert plan.error == run.error
    assert (run.error["code"], "different images" in run.error["message"]) == ("invalid-spec", True)
    assert read_messages(sessions) == []


def test_a_baseline_is_an_audit_like_those_of_the_plan(sessions, model_id):
    """A named baseline has the plan's data set and settings, and outcomes; later runs are compared with it."""
    plan_id = add_plan(sessions)
    queued = load_plan(sessions, plan_id).run_job_id
    first = finish_run(sessions, plan_id).job_id
    alike = call(sessions, plan_runs.run_now, SITE, plan_id).id
    finish_run(sessions, plan_id)
    like = {"kind": JobKind.AUDIT, "model_id": model_id, "dataset": "fashion-mnist-subset", "owner": "ann"}
    with sessions.begin() as session:
        other_settings = submit_job(session, spec=AUDIT | {"seed": 3}, **like).id
    finish(sessions, other_settings)
    with pytest.raises(InvalidSpec, match="other settings"):
        call(sessions, plans.set_baseline, plan_id, other_settings)
    with pytest.raises(JobStateConflict):
        call(sessions, plans.set_baseline, plan_id, load_runs(sessions, plan_id)[-1].comparison_id)
    with pytest.raises(JobNotFound):
        call(sessions, plans.set_baseline, plan_id, "job_0")
    assert (queued, load_plan(sessions, plan_id).baseline_job_id) == (first, first)
    without_outcomes = call(sessions, plan_runs.run_now, SITE, plan_id).id
    claim_job(sessions, without_outcomes)
    with sessions.begin() as session:
        lifecycle.succeed(session, without_outcomes, 1, report=GOOD.report.model_dump_json())
    with pytest.raises(OutcomesNotFound):
        call(sessions, plans.set_baseline, plan_id, without_outcomes)
    with sessions.begin() as session:
        stopped = submit_job(session, spec=AUDIT, **like).id
    attacks = tuple(row.model_copy(update={"untried": 1}) for row in GOOD.report.attacks)
    finish(sessions, stopped, StoredAudit(GOOD.report.model_copy(update={"attacks": attacks}), None))
    with pytest.raises(InvalidSpec, match=r"incomplete.* without a limit of time"):
        call(sessions, plans.set_baseline, plan_id, stopped)
    call(sessions, plans.set_baseline, plan_id, alike)
    sweep(sessions)
    assert load_runs(sessions, plan_id)[-1].baseline_job_id == alike


def test_a_baseline_is_kept_as_long_as_its_plan(sessions, model_id):
    """A baseline is deleted neither on request nor as an old job; without its plan it is, and the plan's jobs stay."""
    plan_id = add_plan(sessions)
    baseline = finish_run(sessions, plan_id).job_id
    with pytest.raises(InUse, match="baseline"):
        call(sessions, removal.remove_job, baseline)
    assert removal.remove_old_jobs(sessions, days=0) == 1  # the check of the model
    call(sessions, plans.remove_plan, plan_id)
    assert load_job(sessions, baseline).state is JobState.SUCCEEDED
    assert load_runs(sessions, plan_id) == []
    with pytest.raises(PlanNotFound):
        load_plan(sessions, plan_id)
    assert removal.remove_old_jobs(sessions, days=0) == 1


def test_plans_of_others_do_not_exist(sessions, model_id):
    """Another owner can read, change, run and delete a plan as little as one that does not exist."""
    plan_id = add_plan(sessions)
    for function, arguments in (
        (plans.find_plan, (plan_id,)),
        (plans.pause, (plan_id,)),
        (plans.resume, (plan_id,)),
        (plans.remove_plan, (plan_id,)),
        (plan_runs.run_now, (SITE, plan_id)),
        (plans.set_baseline, (plan_id, load_plan(sessions, plan_id).run_job_id)),
    ):
        with sessions.for_owner("ben").begin() as session, pytest.raises(PlanNotFound):
            function(session, *arguments)
