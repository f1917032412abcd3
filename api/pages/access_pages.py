"""The pages of API keys and of webhooks: lists, and forms that create them. Secrets are shown once, after their creation."""

from typing import Annotated, Any, Self

from fastapi import Form, Request, Response
from pydantic import BaseModel, ConfigDict, JsonValue, ValidationError

from api.access import administration
from api.access.authentication import AdminDep, ReaderDep, SubmitterDep
from api.pages.page_route import REFUSALS, describe_problem, page_router, redirect, show_refusal
from api.pages.templating import templates
from api.problems.errors import InvalidRequest
from api.schemas.requests import MOST_DAYS, KeyRequest, WebhookRequest
from api.serving.dependencies import After, Id, Service
from api.webhooks import registration
from faal_client.resources.problems import Problem
from faal_client.vocabulary import Scope
from jobs.keys import site_secret
from jobs.settings import MAX_PRIORITY

router = page_router()

NO_STORE = {"Cache-Control": "no-store"}  # on an answer with a secret
SHOWN_MESSAGES = 5  # the newest of each webhook


class KeyForm(BaseModel):
    """The fields of the form that creates a key, as text."""

    model_config = ConfigDict(frozen=True, str_max_length=200)

    owner: str = ""
    name: str = ""
    scopes: list[str] = []  # a form without a box that is checked sends none
    max_priority: str = str(KeyRequest.model_fields["max_priority"].default)
    days: str = ""  # an empty field arrives as its default; empty means no expiry

    @classmethod
    def new(cls) -> Self:
        """Return the form with the defaults of the API."""
        fields = KeyRequest.model_fields
        return cls(scopes=[*fields["scopes"].default], days=str(fields["days"].default))

    def request(self) -> KeyRequest:
        """Return the form as a request to the API. Raises: InvalidRequest."""
        fields: dict[str, JsonValue] = {**self.model_dump(), "days": self.days.strip() or None}
        try:
            return KeyRequest.model_validate(fields)
        except ValidationError as error:
            raise InvalidRequest.from_pydantic(error, fields) from None


class WebhookForm(BaseModel):
    """The field of the form that registers a webhook."""

    model_config = ConfigDict(frozen=True, str_max_length=2000)

    url: str = ""

    def request(self) -> WebhookRequest:
        """Return the form as a request to the API. Raises: InvalidRequest."""
        fields: dict[str, JsonValue] = {"url": self.url.strip()}
        try:
            return WebhookRequest.model_validate(fields)
        except ValidationError as error:
            raise InvalidRequest.from_pydantic(error, fields) from None


def _locate(problem: Problem) -> dict[str, str]:
    """Return the messages of a problem by the form's fields."""
    errors = [(error.pointer.split("/")[1], error.detail) for error in problem.errors or () if error.pointer]
    return dict(reversed(errors))


# Keys


@router.get("/ui/keys")
def show_keys(request: Request, service: AdminDep, after: After = None) -> Response:
    """Show the keys, and the form that creates one."""
    return templates.TemplateResponse(request, "keys.html", _keys(service, after))


def _keys(service: Service, after: str | None = None, form: KeyForm | None = None) -> dict[str, Any]:
    page = administration.list_keys(service, after=after)
    return {
        "keys": page.data,
        "following": page.last_id if page.has_more else None,
        "own": service.key_id,
        "form": form or KeyForm.new(),
        "scopes": [*Scope],
        "most_days": MOST_DAYS,
        "most_priority": MAX_PRIORITY,
        "new": None,
        "problem": None,
        "errors": {},
    }


@router.post("/ui/keys")
def create_key_from_page(request: Request, service: AdminDep, form: Annotated[KeyForm, Form()]) -> Response:
    """Create a key and show it, only in this answer; or show the form again with its errors."""
    try:
        new = administration.issue_key(service.sessions, site_secret(service.settings), form.request())
    except REFUSALS as refusal:
        filling = _keys(service, form=form) | {"errors": _locate(describe_problem(request, refusal))}
        return show_refusal(request, "keys.html", filling, refusal)
    filling = _keys(service) | {"new": new}
    return templates.TemplateResponse(request, "keys.html", filling, headers=NO_STORE)


@router.post("/ui/keys/{id}/revoke")
def revoke_key_from_page(key_id: Id, service: AdminDep) -> Response:
    """Revoke a key and go to the list."""
    administration.revoke_key(service, key_id)
    return redirect("/ui/keys")


# Webhooks


@router.get("/ui/webhooks")
def show_webhooks(request: Request, service: ReaderDep, after: After = None) -> Response:
    """Show the webhooks with their newest messages, and the form that registers one."""
    return templates.TemplateResponse(request, "webhooks.html", _webhooks(service, after))


def _webhooks(service: Service, after: str | None = None, form: WebhookForm | None = None) -> dict[str, Any]:
    page = registration.list_webhooks(service, after=after)
    messages = {hook.id: registration.list_messages(service, hook.id, limit=SHOWN_MESSAGES).data for hook in page.data}
    return {
        "webhooks": page.data,
        "messages": messages,
        "following": page.last_id if page.has_more else None,
        "form": form or WebhookForm(),
        "new": None,
        "problem": None,
        "errors": {},
    }


@router.post("/ui/webhooks")
def create_webhook_from_page(request: Request, service: SubmitterDep, form: Annotated[WebhookForm, Form()]) -> Response:
    """Register a webhook and show its secret, only in this answer; or show the form again with its errors."""
    try:
        new = registration.register_webhook(service, form.request())
    except REFUSALS as refusal:
        filling = _webhooks(service, form=form) | {"errors": _locate(describe_problem(request, refusal))}
        return show_refusal(request, "webhooks.html", filling, refusal)
    filling = _webhooks(service) | {"new": new}
    return templates.TemplateResponse(request, "webhooks.html", filling, headers=NO_STORE)


@router.post("/ui/webhooks/{id}/ping")
def ping_webhook_from_page(webhook_id: Id, service: SubmitterDep) -> Response:
    """Queue a ping and go to the list, which shows its outcome."""
    registration.ping_webhook(service, webhook_id)
    return redirect("/ui/webhooks")


@router.post("/ui/webhooks/{id}/delete")
def delete_webhook_from_page(webhook_id: Id, service: SubmitterDep) -> Response:
    """Delete a webhook and go to the list."""
    registration.remove_webhook(service, webhook_id)
    return redirect("/ui/webhooks")
