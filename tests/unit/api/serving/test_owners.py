"""A request without a key that the first key overtakes writes for the owner of that key."""

from types import SimpleNamespace

from fastapi import Response
from pydantic import HttpUrl
from sqlalchemy import select

from api.routes.partial_uploads import begin_upload
from api.schemas.requests import AuditRequest, CompareRequest, PlanRequest, UploadRequest, WebhookRequest
from api.schemas.studies import StudyRequest
from api.serving import plans, studies, use_cases
from api.webhooks import registration
from faal_client.vocabulary import Scope
from jobs import control, keys
from jobs.plan_tables import Plan, PlanRun
from jobs.settings import Settings
from jobs.states import JobState
from jobs.study_tables import Study, StudyRun
from jobs.tables import Job, Model, PartialUpload, Report, Webhook
from tests.job_steps import add_ready_model, queue_audit
from tests.sample_reports import sample_outcomes

AUDIT = {"dataset": "fashion-mnist-subset", "threat": {"epsilon": "8/255"}, "attacks": "quick"}


def test_all_that_it_creates_belongs_to_the_owner_of_the_key(sessions, tmp_path):
    """Jobs, plans, studies, webhooks and uploads of a request that began before the first key are created for the key's owner."""
    model_id = add_ready_model(sessions, owner=keys.ANYBODY)
    ended = [queue_audit(sessions, model_id, owner=keys.ANYBODY, seed=seed) for seed in (1, 2)]
    with sessions.begin() as session:
        for job_id in ended:
            control.cancel(session, job_id)
        keys.issue(session, b"x" * 32, owner="ann", name="first", scopes=[Scope.READ], lifetime=None)
    service = SimpleNamespace(
        settings=Settings(data_dir=tmp_path, secret="x" * 32),
        sessions=keys.open_keyless(sessions),
        queue=SimpleNamespace(ring=lambda *_: None),
        owner=keys.ANYBODY,
        key_name=None,
        max_priority=0,
    )
    use_cases.submit_job(service, AuditRequest(model=model_id, **AUDIT))
    use_cases.retry_job(service, ended[0])
    with sessions.begin() as session:
        for job_id in ended:
            session.get_one(Job, job_id).state = JobState.SUCCEEDED
            session.add(Report(job_id=job_id, document=sample_outcomes()[0].model_dump_json()))
    use_cases.submit_comparison(service, CompareRequest(jobs=ended))
    plans.create_plan(service, PlanRequest(name="nightly", model_name="digits", **AUDIT))
    fields = {"name": "rivals", "model": model_id, "methods": [{"type": "faal"}], "seeds": [0]}
    threat, dataset = AUDIT["threat"], AUDIT["dataset"]
    studies.create_study(service, StudyRequest.model_validate({**fields, "threat": threat, "dataset": dataset}))
    registration.register_webhook(service, WebhookRequest(url=HttpUrl("https://example.org")))
    begin_upload(UploadRequest(size=1), service, Response())
    with sessions() as session:
        assert len(session.scalars(select(Job.id)).all()) == 8
        for table in (Model, Job, Plan, PlanRun, Study, StudyRun, Webhook, PartialUpload):
            assert set(session.scalars(select(table.owner))) == {"ann"}, table
