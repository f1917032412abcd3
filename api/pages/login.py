"""Sign in to the pages with an API key, and sign out."""

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
    """Redirect to the login form, which leads back to the requested page."""
    if "HX-Request" in request.headers:  # htmx requested a part of a page: redirect the whole page
        return Response(
            status_code=401, headers={"HX-Redirect": _login_address(request.headers.get("HX-Current-URL", "/"))}
        )
    if request.method != "GET":  # a form cannot be sent again, and its address has no page
        return RedirectResponse(_login_address("/"), 303)
    query = request.scope["query_string"].decode("latin-1")
    return RedirectResponse(_login_address(f"{request.scope['path']}?{query}"), 303)


def _login_address(page: str) -> str:
    """Return the address of the login form, with the address of the page to return to."""
    try:
        parts = urlsplit(page)
    except ValueError:
        return PATH
    back = parts.path + (f"?{parts.query}" if parts.query else "")
    return f"{PATH}?{urlencode({'back': back})}" if len(back) <= LONGEST_BACK else PATH


def _local_address(back: str) -> str:
    """Return the address if it is a path of this site in every browser, or else `/`."""
    return back if back.startswith("/") and not back.startswith(("//", "/\\")) and back.isprintable() else "/"


@router.get(PATH)
def show_login(request: Request, back: Annotated[str, Query(max_length=LONGEST_BACK)] = "/") -> Response:
    """Show the form."""
    return templates.TemplateResponse(request, "login.html", {"back": _local_address(back), "problem": None})


@router.post(PATH)
def log_in(
    request: Request,
    service: ServiceDep,
    key: Annotated[str, Form(max_length=200)],
    back: Annotated[str, Form(max_length=LONGEST_BACK)] = "/",
) -> Response:
    """Sign in and go to the requested page, or show the form again."""
    answer = RedirectResponse(_local_address(back), 303)
    try:
        sign_in(service, request, answer, key.strip())
    except KeyRefused as refusal:
        problem = answers.describe_problem(request, refusal)
        filling = {"back": _local_address(back), "problem": problem}
        return templates.TemplateResponse(request, "login.html", filling, problem.status)
    return answer


@router.post("/logout")
def log_out() -> Response:
    """Sign out and go to the form."""
    answer = RedirectResponse(PATH, 303)
    sign_out(answer)
    return answer
