"""Answer every error with a problem as in RFC 9457; its `type`, `/problems/<code>`, is a page that explains the code."""

import logging
from collections.abc import Mapping
from http import HTTPMethod, HTTPStatus

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.routing import BaseRoute, Match
from starlette.types import Scope

from api.problems import errors as api
from api.problems.errors import ApiError, and_more, describe_field
from api.problems.explanations import PROBLEMS
from api.problems.hidden_secrets import hide_secrets
from api.schemas.rows import describe_error
from faal_client.resources.problems import FieldError, Limit, Problem
from faal_core.errors import FaalError
from faal_core.specs.field_errors import MAX_ERRORS, filter_relevant, shorten
from jobs import errors as jobs
from jobs.database import DatabaseFailure, is_unavailable
from jobs.errors import JobsError

logger = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"
INTERNAL_ERROR = "internal-error"
_LONGEST_DETAIL = 4000  # characters; some problems quote the message of a job, of up to 2,000
_LONGEST_INSTANCE = 500  # characters; the server takes addresses of up to 16 KiB

_FRAMEWORK_CODES: Mapping[HTTPStatus, str] = {  # for requests that the framework refuses
    HTTPStatus.BAD_REQUEST: api.MalformedBody.code,
    HTTPStatus.NOT_FOUND: "not-found",
    HTTPStatus.METHOD_NOT_ALLOWED: "method-not-allowed",
    HTTPStatus.REQUEST_TIMEOUT: api.UploadTooSlow.code,
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: jobs.UploadTooLarge.code,
    HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE: "range-not-satisfiable",
}


def describe_limit(raised: Exception) -> Limit | None:
    """Return the limit that an error reports, or None."""
    if isinstance(raised, jobs.QuotaExceeded):
        return Limit(of=raised.resource, most=raised.most, used=raised.used)
    if isinstance(raised, api.RateExceeded):
        return Limit(of=raised.resource, most=raised.most, used=raised.most)
    return None


def describe_problem(request: Request, raised: Exception) -> Problem:
    """Return the problem for an error. The problem of an unexpected error contains no internals."""
    if isinstance(raised, RequestValidationError):
        raised = _from_validation(raised)
    code, detail = INTERNAL_ERROR, "The service met an unexpected error. Report it to the operator with the request id."
    status, title = PROBLEMS[code].status, PROBLEMS[code].title
    path = hide_secrets(request.url.path)
    if isinstance(raised, ApiError | FaalError | JobsError) and raised.code in PROBLEMS:
        code, detail = raised.code, raised.message
        status, title = PROBLEMS[code].status, PROBLEMS[code].title
    elif isinstance(raised, HTTPException):
        status = HTTPStatus(raised.status_code)
        code = _FRAMEWORK_CODES.get(status, status.phrase.lower().replace(" ", "-"))
        title = PROBLEMS[code].title if code in PROBLEMS else status.phrase
        here = f"There is no {request.method} {path}; /openapi.json lists the addresses and their methods."
        detail = here if raised.detail == status.phrase else raised.detail
    return Problem(
        type=f"/problems/{code}",
        title=title,
        status=status,
        code=code,
        detail=shorten(detail, _LONGEST_DETAIL),
        instance=shorten(path, _LONGEST_INSTANCE),
        request_id=request.state.request_id,
        errors=(raised.fields or None) if isinstance(raised, ApiError) else None,
        limit=describe_limit(raised),
        error=describe_error(raised.problem) if isinstance(raised, jobs.JobFailed) else None,
    )


def select_headers(raised: Exception) -> dict[str, str]:
    """Return the headers that belong to the answer to an error."""
    if isinstance(raised, HTTPException):
        return dict(raised.headers or {})
    if isinstance(raised, api.KeyRequired | jobs.KeyRefused):
        return {"WWW-Authenticate": "Bearer"}
    if isinstance(raised, api.UploadTooSlow):
        return {"Connection": "close"}  # otherwise the server would wait for the rest
    if isinstance(raised, api.RateExceeded):
        return {"Retry-After": str(raised.seconds)}
    if isinstance(raised, jobs.QuotaExceeded):
        return {"Retry-After": "60"}
    return (
        {"Retry-After": "5"}
        if isinstance(raised, api.DatabaseUnavailable | api.ServiceBusy | api.ServiceNotReady | jobs.StoreUnavailable)
        else {}
    )


def _list_methods(request: Request) -> str:
    """Return the methods that the address accepts, on any route (RFC 9110, section 10.2.1)."""
    routes = request.app.routes
    methods = (method for method in HTTPMethod if any(_accepts(route, request.scope, method) for route in routes))
    return ", ".join(methods)


def _accepts(route: BaseRoute, scope: Scope, method: str) -> bool:
    return route.matches({**scope, "method": method})[0] is Match.FULL


def _from_validation(raised: RequestValidationError) -> ApiError:
    """Return the ApiError for FastAPI's validation errors in parameters and body."""
    details = list(filter_relevant(raised.errors()))
    if details[0]["type"] == "json_invalid":
        return api.MalformedBody(f"The body is not JSON: {details[0]['ctx']['error']}.")
    fields = []
    for error in details[:MAX_ERRORS]:
        source, *location = error["loc"]
        field = describe_field({**error, "loc": tuple(location)}, raised.body)
        fields.append(field if source == "body" else FieldError(parameter=str(location[-1]), detail=field.detail))
    first = f"{fields[0].parameter or fields[0].pointer or 'body'}: {fields[0].detail}"
    return api.InvalidRequest(first + and_more(len(details) - 1), *fields)


def answer(request: Request, raised: Exception) -> JSONResponse:
    """Return the problem of an error as a response."""
    problem = describe_problem(request, raised)
    if problem.code == INTERNAL_ERROR:
        logger.error("request %s failed: %s %s", problem.request_id, request.method, problem.instance)
    headers = {**select_headers(raised), "X-Request-Id": problem.request_id}
    if problem.status == HTTPStatus.METHOD_NOT_ALLOWED:
        headers["Allow"] = _list_methods(request) or "GET, HEAD"  # mounted files have no route
    return JSONResponse(problem.model_dump(by_alias=True, exclude_none=True), problem.status, headers, MEDIA_TYPE)


def _answer_for_database(request: Request, raised: Exception) -> JSONResponse:
    """Return the problem for an unavailable database. Raises: `raised`, for any other database error, which is a defect."""
    if not is_unavailable(raised):
        raise raised
    logger.error("the database failed: %s", raised)
    return answer(request, api.DatabaseUnavailable("The database does not answer. Try again in a moment."))


def install(app: FastAPI) -> None:
    """Register the handlers that answer every error of `app` with a problem."""
    for family in (ApiError, FaalError, JobsError, RequestValidationError, HTTPException, Exception):
        app.add_exception_handler(family, answer)
    app.add_exception_handler(DatabaseFailure, _answer_for_database)
