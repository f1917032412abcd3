"""The answers to visitors who open an address that has no page."""

from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException
from starlette.routing import Match

from api.pages.page_route import redirect, show_problem
from api.problems import answers
from api.serving.negotiation import choose_media_type

_VARY = {"Vary": "Accept"}


def install(app: FastAPI) -> None:
    """Answer browsers with a page where the framework finds no route or no file; other clients get a problem as before."""
    app.add_exception_handler(HTTPException, _answer)


def _answer(request: Request, raised: Exception) -> Response:
    accepted = choose_media_type(request.headers.get("Accept", "*/*"), [answers.MEDIA_TYPE, "text/html"])
    if request.method not in ("GET", "HEAD") or accepted != "text/html" or not isinstance(raised, HTTPException):
        return answers.answer(request, raised)
    if raised.status_code == 405 and request.url.path.startswith("/ui/"):
        return redirect(_find_page(request))  # the address that a form was sent to, loaded again
    page = show_problem(request, raised)
    page.headers.update(_VARY)
    return page


def _find_page(request: Request) -> str:
    """Return the nearest address above that of the request that has a page, or the address of the list of jobs."""
    path = request.url.path
    while path := path.rpartition("/")[0]:
        if any(route.matches({**request.scope, "path": path})[0] is Match.FULL for route in request.app.routes):
            return path
    return "/"
