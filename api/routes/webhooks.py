"""Webhooks: register URLs for messages about ended jobs and falls of accuracy, and read the outcome of each message."""

from fastapi import APIRouter, Response

from api.access.authentication import ReaderDep, SubmitterDep
from api.schemas.requests import WebhookRequest
from api.serving.dependencies import After, Id, Limit
from api.webhooks import registration
from faal_client.resources.objects import Page
from faal_client.resources.webhooks import Announcement, MessageResource, NewWebhook, WebhookResource

router = APIRouter(tags=["webhooks"])
announcements = APIRouter()


@router.post("/webhooks", status_code=201, summary="Register a webhook")
def create_webhook(body: WebhookRequest, service: SubmitterDep, response: Response) -> NewWebhook:
    """Register a webhook, and return it with the secret that signs its messages.

    The service sends it a message for every job of yours that ends from now on, and for every audit of a plan in which an
    accuracy fell significantly.
    """
    response.headers["Cache-Control"] = "no-store"
    return registration.register_webhook(service, body)


@router.get("/webhooks", summary="List webhooks, newest first")
def list_webhooks(service: ReaderDep, after: After = None, limit: Limit = 20) -> Page[WebhookResource]:
    """List your webhooks, including disabled ones."""
    return registration.list_webhooks(service, after=after, limit=limit)


@router.delete("/webhooks/{id}", status_code=204, summary="Delete a webhook")
def delete_webhook(webhook_id: Id, service: SubmitterDep) -> None:
    """Delete a webhook. The service sends it no more messages, and drops those that wait for another try."""
    registration.remove_webhook(service, webhook_id)


@router.get("/webhooks/{id}/messages", summary="List the messages of a webhook, newest first")
def list_webhook_messages(
    webhook_id: Id, service: ReaderDep, after: After = None, limit: Limit = 20
) -> Page[MessageResource]:
    """List the messages of the last 30 days, and the outcome of each."""
    return registration.list_messages(service, webhook_id, after=after, limit=limit)


@router.post("/webhooks/{id}/ping", status_code=202, summary="Ping a webhook")
def ping_webhook(webhook_id: Id, service: SubmitterDep) -> MessageResource:
    """Queue a message of type `ping`, which is sent within seconds, and return it.

    The answer is 429, `rate-exceeded`, if the webhook was pinged less than a minute ago, if its last ping waits for another
    try, or if the owner has pinged 20 times within the minute.
    """
    return registration.ping_webhook(service, webhook_id)


@announcements.post("job-ended", summary="A job has ended")
def job_ended(body: Announcement) -> None:
    """Receive a message that a job has ended. Answer with a 2xx status within 15 seconds.

    The service sends it to each webhook of the job's owner, signed as Standard Webhooks specifies.
    """


@announcements.post("audit-fell", summary="An audit of a plan has fallen")
def audit_fell(body: Announcement) -> None:
    """Receive a message that accuracies fell significantly below the baseline of a plan. Answer as for `job-ended`.

    The service sends it to each webhook of the plan's owner. Changes that chance alone can explain send no message.
    """
