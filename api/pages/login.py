"""Signing in to the pages with an API key, and out again."""

from typing import Annotated
from urllib.parse import urlencode, urlsplit

from fastapi import APIRouter, Depends, Form, Query, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse

from api.access.authentication import require_own_host, sign_in, sign_out
from api.pages.templating import templates
from api.problems import answers
from api.serving.dependencies import ServiceDep
from jobs.errors import KeyRefused

router = APIRouter(
    include_in_schema=False, default_response_class=HTMLResponse, dependencies=[Depends(require_own_host)]
)

PATH = "/login"
LONGEST_BACK = 2000


def to_login(request: Request) -> Response:
    """The way to the form, and after it back to the page that was asked for."""
    if "HX-Request" in request.headers:  # a part of a page asked: the whole page goes
        return Response(status_code=401, headers={"HX-Redirect": _form(request.headers.get("HX-Current-URL", "/"))})
    if request.method != "GET":  # what was sent is lost, and its address shows nothing
        return RedirectResponse(_form("/"), 303)
    query = request.scope["query_string"].decode("latin-1")
    return RedirectResponse(_form(f"{request.scope['path']}?{query}"), 303)


def _form(wanted: str) -> str:
    """The form's address, with the way back to that page."""
    try:
        parts = urlsplit(wanted)
    except ValueError:
        return PATH
    back = parts.path + (f"?{parts.query}" if parts.query else "")
    return f"{PATH}?{urlencode({'back': back})}" if len(back) <= LONGEST_BACK else PATH


def _here(back: str) -> str:
    """That address if it is one of ours: a path, which no browser takes for another site."""
    return back if back.startswith("/") and not back.startswith(("//", "/\\")) and back.isprintable() else "/"


@router.get(PATH)
def show_login(request: Request, back: Annotated[str, Query(max_length=LONGEST_BACK)] = "/") -> Response:
    """The form."""
    return templates.TemplateResponse(request, "login.html", {"back": _here(back), "problem": None})


@router.post(PATH)
def log_in(
    request: Request,
    service: ServiceDep,
    key: Annotated[str, Form(max_length=200)],
    back: Annotated[str, Form(max_length=LONGEST_BACK)] = "/",
) -> Response:
    """The page that was asked for, with a session; or the form again."""
    answer = RedirectResponse(_here(back), 303)
    try:
        sign_in(service, request, answer, key.strip())
    except KeyRefused as refusal:
        problem = answers.problem_of(request, refusal)
        filling = {"back": _here(back), "problem": problem}
        return templates.TemplateResponse(request, "login.html", filling, problem.status)
    return answer


@router.post("/logout")
def log_out() -> Response:
    """The form, without the session."""
    answer = RedirectResponse(PATH, 303)
    sign_out(answer)
    return answer
