"""Webhooks: where to be told that a job has ended, and what became of each message."""

from datetime import datetime
from typing import Annotated, Literal, Self

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field, HttpUrl
from pydantic.config import JsonDict

from api.access.authentication import ReaderDep, SubmitterDep
from api.problems.errors import InvalidRequest, RateExceeded
from api.schemas.resources import ErrorBody, Page, Resource
from api.serving.dependencies import After, Id, Limit
from api.serving.rates import Rates
from api.webhooks.delivery import signing_key, signing_secret
from api.webhooks.egress_policy import Destinations
from faal_core.specs import Spec
from jobs import webhooks
from jobs.keys import site_secret
from jobs.states import JobKind, JobState
from jobs.tables import Webhook, WebhookMessage
from jobs.webhooks import MessageState

router = APIRouter(tags=["webhooks"])
announcements = APIRouter()

_EXAMPLE: JsonDict = {"url": "https://example.com/faal"}


class WebhookRequest(Spec):
    """Where messages shall go."""

    model_config = ConfigDict(json_schema_extra={"examples": [_EXAMPLE]})

    url: Annotated[HttpUrl, Field(max_length=2000, description="https, with a public address", examples=["https://…"])]


class WebhookResource(Resource):
    """Where the owner's jobs are announced when they end."""

    id: str = Field(examples=["webhook_0199c2f2a3d87b1e9f5a6c7d8e9f0a1b"])
    object: Literal["webhook"] = "webhook"
    url: str
    created_at: datetime
    disabled_at: datetime | None = Field(description="since when no ends are told: the receiver answered 410 Gone")

    @classmethod
    def of(cls, row: Webhook) -> Self:
        """The webhook of that row."""
        return cls(id=row.id, url=row.url, created_at=row.created_at, disabled_at=row.disabled_at)


class NewWebhook(Resource):
    """A webhook that was just made."""

    object: Literal["new-webhook"] = "new-webhook"
    secret: str = Field(examples=["whsec_…"], description="what its messages are signed with; it is told this once")
    about: WebhookResource


class MessageResource(Resource):
    """A message, and what became of it."""

    id: str = Field(examples=["message_0199c2f2a3d87b1e9f5a6c7d8e9f0a1b"], description="also its `webhook-id`")
    object: Literal["webhook-message"] = "webhook-message"
    type: str = Field(examples=["job.succeeded"])
    status: MessageState
    tries: int
    answer: int | None = Field(description="the HTTP status that the last try was answered with")
    error: str | None = Field(description="why it had no answer")
    next_try_at: datetime | None
    created_at: datetime
    delivered_at: datetime | None

    @classmethod
    def of(cls, row: WebhookMessage) -> Self:
        """The message of that row."""
        return cls(
            id=row.id,
            type=row.kind,
            status=webhooks.state(row),
            tries=row.tries,
            answer=row.status,
            error=row.error,
            next_try_at=row.due_at,
            created_at=row.created_at,
            delivered_at=row.delivered_at,
        )


@router.post("/webhooks", status_code=201, summary="Be told when jobs end")
def create_webhook(body: WebhookRequest, service: SubmitterDep, response: Response) -> NewWebhook:
    """The webhook, and the secret that its messages are signed with. All jobs of the owner that end from now on are told."""
    if (objection := Destinations(service.settings.allowed_networks).objection(body.url)) is not None:
        raise InvalidRequest.at("/url", objection)
    response.headers["Cache-Control"] = "no-store"
    with service.sessions.begin() as session:
        row = webhooks.add(session, owner=service.owner, url=str(body.url))
        key = signing_key(site_secret(service.settings), row.id)
        return NewWebhook(secret=signing_secret(key), about=WebhookResource.of(row))


@router.get("/webhooks", summary="List webhooks, newest first")
def list_webhooks(service: ReaderDep, after: After = None, limit: Limit = 20) -> Page[WebhookResource]:
    """Those that were disabled included."""
    with service.sessions() as session:
        page = webhooks.webhooks(session, after=after, limit=limit)
    return Page[WebhookResource].of(page, WebhookResource.of)


@router.delete("/webhooks/{id}", status_code=204, summary="Delete a webhook")
def delete_webhook(webhook_id: Id, service: SubmitterDep) -> None:
    """Nothing: it is told nothing more, not even what waits for another try."""
    with service.sessions.begin() as session:
        webhooks.remove(session, webhook_id)


@router.get("/webhooks/{id}/messages", summary="What a webhook was told, newest first")
def list_webhook_messages(
    webhook_id: Id, service: ReaderDep, after: After = None, limit: Limit = 20
) -> Page[MessageResource]:
    """The messages of the last 30 days, and what became of each."""
    with service.sessions() as session:
        page = webhooks.messages(session, webhook_id, after=after, limit=limit)
    return Page[MessageResource].of(page, MessageResource.of)


@router.post("/webhooks/{id}/ping", status_code=202, summary="Try a webhook")
def ping_webhook(webhook_id: Id, service: SubmitterDep, request: Request) -> MessageResource:
    """Return a message of type `ping`, on its way within seconds.

    429, `rate-exceeded`, if the webhook was pinged less than a minute ago or its last ping waits for another try, and if the
    owner has pinged 20 times within the minute.
    """
    pings: Rates = request.app.state.pings
    with service.sessions.begin() as session:
        if wait := webhooks.seconds_until_ping(session, webhook_id):
            rule = "A webhook can be pinged once a minute, and only after its last ping was delivered or given up"
            raise RateExceeded(rule, of="pings", most=1, seconds=wait)
        pings.count(service.owner)
        return MessageResource.of(webhooks.ping(session, webhook_id))


class EndedJob(BaseModel):
    """The job that has ended; `GET /jobs/{id}` tells the rest."""

    id: str
    object: Literal["job"]
    kind: JobKind
    status: JobState
    model: str | None
    dataset: str | None
    metadata: dict[str, str]
    error: ErrorBody | None


class Pinged(BaseModel):
    """Nothing has happened."""

    webhook: str = Field(description="its id")


class Announcement(BaseModel):
    """What a webhook is told."""

    type: str = Field(examples=["job.succeeded"], description="job.succeeded, job.failed, job.cancelled or ping")
    timestamp: datetime
    data: EndedJob | Pinged


@announcements.post("job-ended", summary="A job has ended")
def job_ended(body: Announcement) -> None:
    """Sent to each webhook of the job's owner, signed as Standard Webhooks are; answer with a 2xx status within 15 seconds."""
