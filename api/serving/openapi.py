"""The OpenAPI document: FastAPI's document, with problems as the answers to all errors."""

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from api.problems.answers import MEDIA_TYPE
from api.problems.explanations import PROBLEMS
from faal_client.resources.problems import Problem
from jobs.errors import ModelNotReady

_METHODS = {"get", "post", "put", "patch", "delete"}
_EXAMPLE = {
    "type": "/problems/model-not-ready",
    "title": PROBLEMS[ModelNotReady.code].title,
    "status": 409,
    "code": "model-not-ready",
    "detail": "Model model_0199… is still being checked. Try again when its status is ready.",
    "instance": "/jobs/finetune",
    "request_id": "req_6f2c…",
}
_ANSWER = {
    "description": "A problem (RFC 9457); `/problems/{code}` explains its code",
    "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}, "example": _EXAMPLE}},
}


def install(app: FastAPI) -> None:
    """Serve `document` at /openapi.json of `app`."""

    def generate() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = document(app)
        return app.openapi_schema

    app.openapi = generate  # type: ignore[method-assign]  # as FastAPI's "Extending OpenAPI" says


def document(app: FastAPI) -> dict[str, Any]:
    """Return the OpenAPI document of `app`."""
    described = get_openapi(
        title=app.title, version=app.version, summary=app.summary, routes=app.routes, webhooks=app.webhooks.routes
    )
    schemas = described["components"]["schemas"]
    problem = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
    schemas |= problem.pop("$defs")
    schemas["Problem"] = problem
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)
    for path in described["paths"].values():
        for method, operation in path.items():
            if method in _METHODS:
                _describe_problems(operation["responses"])
    return described


def _describe_problems(responses: dict[str, Any]) -> None:
    """Describe every answer that is not a success as a problem."""
    responses.pop("422", None)
    for status, answer in responses.items():
        if status >= "400":
            answer["content"] = _ANSWER["content"]
    responses["default"] = _ANSWER
