"""Register, list, ping and delete webhooks: for the routes and the pages."""

from api.problems.errors import InvalidRequest, RateExceeded
from api.schemas.requests import WebhookRequest
from api.schemas.rows import describe_message, describe_page, describe_webhook
from api.serving.dependencies import Service
from api.webhooks.delivery import signing_key, signing_secret
from api.webhooks.egress_policy import EgressPolicy
from faal_client.resources.objects import Page
from faal_client.resources.webhooks import MessageResource, NewWebhook, WebhookResource
from jobs import webhooks
from jobs.database import read_owner
from jobs.keys import site_secret


def register_webhook(service: Service, request: WebhookRequest) -> NewWebhook:
    """Register a webhook, and return it with its secret. Raises: InvalidRequest for an address that is not allowed."""
    if (objection := EgressPolicy(service.settings.allowed_networks).objection(request.url)) is not None:
        raise InvalidRequest.for_field("/url", objection)
    with service.sessions.begin() as session:
        row = webhooks.add_webhook(session, owner=read_owner(session), url=str(request.url))
        key = signing_key(site_secret(service.settings), row.id)
        return NewWebhook(secret=signing_secret(key), about=describe_webhook(row))


def list_webhooks(service: Service, *, after: str | None = None, limit: int = 20) -> Page[WebhookResource]:
    """Return the webhooks, newest first, including disabled ones."""
    with service.sessions() as session:
        page = webhooks.list_webhooks(session, after=after, limit=limit)
    return describe_page(page, describe_webhook)


def list_messages(service: Service, webhook_id: str, *, after: str | None = None, limit: int) -> Page[MessageResource]:
    """Return the messages of the last 30 days, newest first, and the outcome of each. Raises: WebhookNotFound."""
    with service.sessions() as session:
        page = webhooks.list_messages(session, webhook_id, after=after, limit=limit)
    return describe_page(page, describe_message)


def ping_webhook(service: Service, webhook_id: str) -> MessageResource:
    """Queue a ping, and return it. Raises: WebhookNotFound; RateExceeded for a ping too soon, or the owner's 21st in a minute."""
    with service.sessions.begin() as session:
        if wait := webhooks.seconds_until_ping(session, webhook_id):
            rule = "The webhook was pinged within the last minute, or its last ping waits for another try"
            raise RateExceeded(rule, resource="pings", most=1, seconds=wait)
        service.pings.count(service.owner)
        return describe_message(webhooks.ping(session, webhook_id))


def remove_webhook(service: Service, webhook_id: str) -> None:
    """Delete a webhook and the messages that wait for another try. Raises: WebhookNotFound."""
    with service.sessions.begin() as session:
        webhooks.remove_webhook(session, webhook_id)
