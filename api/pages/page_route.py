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
from jobs.errors import JobsError, KeyRefused

REFUSALS = (ApiError, FaalError, JobsError)


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
                return show_refusal(request, "problem.html", {}, raised)

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


def redirect(address: str) -> Response:
    """Return a redirect to a page, to be loaded with GET."""
    return RedirectResponse(address, 303)
