"""The behaviour that all pages share: errors are shown on pages, and changes end with a redirect."""

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, RedirectResponse
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException

from api.pages.login import to_login
from api.pages.sentences import write_for_readers
from api.pages.templating import templates
from api.problems import answers
from api.problems.errors import ApiError, KeyRequired
from faal_client.resources.problems import Problem
from faal_core.errors import FaalError
from jobs.errors import (
    DatasetNotFound,
    JobNotFound,
    JobsError,
    KeyNotFound,
    KeyRefused,
    ModelNotFound,
    PlanNotFound,
    WebhookNotFound,
)

REFUSALS = (ApiError, FaalError, JobsError)

_LISTS = {  # pages to look an object up, by the code of the error: the beginning of a sentence, and the address
    JobNotFound.code: ("The list of jobs", "/"),
    PlanNotFound.code: ("The list of plans", "/ui/plans"),
    ModelNotFound.code: ("The list of models", "/ui/models"),
    DatasetNotFound.code: ("The list of data sets", "/ui/datasets"),
    WebhookNotFound.code: ("The list of webhooks", "/ui/webhooks"),
    KeyNotFound.code: ("The list of keys", "/ui/keys"),
}


class _PageRoute(APIRoute):
    """A route that shows errors on a page, and the login page to a visitor without a valid key."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return the function that answers a request."""
        answer = super().get_route_handler()

        async def answer_with_page(request: Request) -> Response:
            try:
                return await answer(request)
            except (KeyRequired, KeyRefused):
                return to_login(request)
            except (*REFUSALS, RequestValidationError, HTTPException) as raised:
                return show_problem(request, raised)

        return answer_with_page


def page_router() -> APIRouter:
    """Return a router for pages."""
    return APIRouter(include_in_schema=False, default_response_class=HTMLResponse, route_class=_PageRoute)


def describe_problem(request: Request, raised: Exception) -> Problem:
    """Return the problem for an error, with a detail for readers of pages."""
    return write_for_readers(answers.describe_problem(request, raised))


def show_refusal(request: Request, page: str, filling: dict[str, Any], raised: Exception) -> Response:
    """Show a page with the problem, with the status and headers that the API would answer with."""
    problem = describe_problem(request, raised)
    return templates.TemplateResponse(
        request, page, filling | {"problem": problem}, problem.status, answers.select_headers(raised)
    )


def show_problem(request: Request, raised: Exception) -> Response:
    """Show a page about the problem alone, with a link to the list of the objects that were looked for."""
    code = getattr(raised, "code", "")
    return show_refusal(request, "problem.html", {"listed": _LISTS.get(code)}, raised)


def redirect(address: str) -> Response:
    """Return a redirect to a page, to be loaded with GET."""
    return RedirectResponse(address, 303)
