"""Webhooks as JSON: the webhook, its messages, and the body that its receiver gets."""

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, Field

from faal_client.resources.objects import ErrorBody, Resource
from faal_client.resources.plans import FallenAudit
from faal_client.vocabulary import JobKind, JobState, MessageState


class WebhookResource(Resource):
    """A webhook, which receives a message when a job of its owner ends, or an audit of a plan has fallen."""

    id: str = Field(examples=["webhook_0199c2f2a3d87b1e9f5a6c7d8e9f0a1b"])
    object: Literal["webhook"] = "webhook"
    url: str
    created_at: datetime
    disabled_at: datetime | None = Field(
        description="time at which the receiver answered 410 Gone, after which it gets no more messages"
    )


class NewWebhook(Resource):
    """A new webhook with the secret that signs its messages."""

    object: Literal["new-webhook"] = "new-webhook"
    secret: str = Field(
        examples=["whsec_…"], description="secret that signs the webhook's messages; the service returns it only here"
    )
    resource: WebhookResource = Field(alias="about", description="the webhook without its secret")


class MessageResource(Resource):
    """A message to a webhook, and the outcome of its delivery."""

    id: str = Field(
        examples=["message_0199c2f2a3d87b1e9f5a6c7d8e9f0a1b"],
        description="id of the message, also sent as its `webhook-id`",
    )
    object: Literal["webhook-message"] = "webhook-message"
    type: str = Field(examples=["job.succeeded"])
    status: MessageState
    tries: int
    answer: int | None = Field(description="HTTP status of the receiver's answer to the last try")
    error: str | None = Field(description="the reason why the last try had no answer")
    next_try_at: datetime | None
    created_at: datetime
    delivered_at: datetime | None


class EndedJob(BaseModel):
    """The job that has ended; `GET /jobs/{id}` returns all of its fields."""

    id: str
    object: Literal["job"]
    kind: JobKind
    status: JobState
    model: str | None
    dataset: str | None
    metadata: dict[str, str]
    error: ErrorBody | None


class Pinged(BaseModel):
    """The data of a ping, which reports no event."""

    webhook: str = Field(description="id of the webhook")


class Announcement(BaseModel):
    """The body of a message to a webhook."""

    type: str = Field(
        examples=["job.succeeded"],
        description="type of the message: job.succeeded, job.failed, job.cancelled, audit.fell or ping",
    )
    timestamp: datetime
    data: EndedJob | FallenAudit | Pinged
