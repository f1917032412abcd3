"""The pages that explain problem codes and the API."""

from fastapi import HTTPException, Request, Response

from api.pages.page_route import page_router
from api.pages.templating import templates
from api.problems.explanations import explain_code

router = page_router()


@router.get("/problems/{code}")
def show_problem_type(request: Request, code: str) -> Response:
    """Show the cause and the remedy of a code, to which the `type` of a problem points."""
    explanations = explain_code(code)
    if not explanations:
        raise HTTPException(404)
    return templates.TemplateResponse(request, "problem_type.html", {"code": code, "explanations": explanations})


@router.get("/docs")
def show_description(request: Request) -> Response:
    """Show the API documentation, where requests can be tried."""
    return templates.TemplateResponse(request, "docs.html")
