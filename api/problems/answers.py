"""What went wrong, as HTTP: every error class has one status, here and nowhere else; bodies follow RFC 9457.

`type` is `/problems/<code>`; every code is explained in docs/problems.md.
"""

import logging
from collections.abc import Mapping, Sequence
from http import HTTPMethod, HTTPStatus
from typing import Literal, Self

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException
from starlette.routing import BaseRoute, Match
from starlette.types import Scope

from api.problems import errors as api
from api.problems.errors import ApiError, FieldError, and_more
from api.schemas.resources import ErrorBody
from faal_core import errors as faal
from faal_core.errors import FaalError
from faal_core.specs.field_errors import MAX_ERRORS, relevant, shortened
from jobs import errors as jobs
from jobs.database import DatabaseFailure, unavailable
from jobs.errors import JobsError

logger = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"
INTERNAL_ERROR = "internal-error"
_LONGEST_DETAIL = 4000  # characters; a job's own message, which some problems quote, has up to 2,000
_LONGEST_INSTANCE = 500  # characters; the server takes addresses of up to 16 KiB

STATUS: Mapping[type[ApiError] | type[FaalError] | type[JobsError], tuple[HTTPStatus, str]] = {
    api.InvalidRequest: (HTTPStatus.UNPROCESSABLE_ENTITY, "The request has missing or wrong fields"),
    api.MalformedBody: (HTTPStatus.BAD_REQUEST, "The body cannot be read"),
    api.UnsupportedFile: (HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "The file is of a kind that is not accepted"),
    api.DigestMismatch: (HTTPStatus.BAD_REQUEST, "The content is not what its digest says"),
    api.UploadTooSlow: (HTTPStatus.REQUEST_TIMEOUT, "The body arrives too slowly"),
    api.KeyRequired: (HTTPStatus.UNAUTHORIZED, "Who is asking?"),
    jobs.KeyRefused: (HTTPStatus.UNAUTHORIZED, "The API key is not accepted"),
    api.UnknownHost: (HTTPStatus.MISDIRECTED_REQUEST, "The service is not known under this name"),
    api.ScopeMissing: (HTTPStatus.FORBIDDEN, "The API key does not allow this"),
    api.CrossSiteRequest: (HTTPStatus.FORBIDDEN, "Another site may not do this"),
    api.DatabaseUnavailable: (HTTPStatus.SERVICE_UNAVAILABLE, "The database cannot be reached"),
    api.ServiceBusy: (HTTPStatus.SERVICE_UNAVAILABLE, "Too much is going on at once"),
    api.ServiceNotReady: (HTTPStatus.SERVICE_UNAVAILABLE, "A part of the service is out of order"),
    faal.InvalidSpec: (HTTPStatus.UNPROCESSABLE_ENTITY, "What is asked for contradicts itself, the model or the data"),
    faal.UnknownName: (HTTPStatus.UNPROCESSABLE_ENTITY, "Nothing of that name is offered"),
    faal.DatasetMissing: (HTTPStatus.CONFLICT, "The data set's files are not here"),
    faal.WeightsUnreadable: (HTTPStatus.UNPROCESSABLE_ENTITY, "The file cannot be read as weights"),
    jobs.JobNotFound: (HTTPStatus.NOT_FOUND, "There is no such job"),
    jobs.CandidateNotFound: (HTTPStatus.NOT_FOUND, "The report has no such candidate"),
    jobs.ModelNotFound: (HTTPStatus.NOT_FOUND, "There is no such model"),
    jobs.DatasetNotFound: (HTTPStatus.NOT_FOUND, "There is no such data set"),
    jobs.UploadNotFound: (HTTPStatus.NOT_FOUND, "There is no such upload"),
    jobs.UploadIncomplete: (HTTPStatus.CONFLICT, "Parts of the upload are missing"),
    jobs.UploadComplete: (HTTPStatus.CONFLICT, "The upload has all its parts"),
    jobs.WebhookNotFound: (HTTPStatus.NOT_FOUND, "There is no such webhook"),
    jobs.KeyNotFound: (HTTPStatus.NOT_FOUND, "There is no such API key"),
    jobs.ModelNotReady: (HTTPStatus.CONFLICT, "The model cannot be used"),
    jobs.DatasetNotReady: (HTTPStatus.CONFLICT, "The data set cannot be used"),
    jobs.JobStateConflict: (HTTPStatus.CONFLICT, "The job's state does not allow this"),
    jobs.InUse: (HTTPStatus.CONFLICT, "It is still needed"),
    jobs.FileLost: (HTTPStatus.GONE, "A stored file is missing or damaged"),
    jobs.FileVanished: (HTTPStatus.SERVICE_UNAVAILABLE, "The file was removed at this moment"),
    jobs.JobFailed: (HTTPStatus.CONFLICT, "The job failed"),
    jobs.JobCancelled: (HTTPStatus.CONFLICT, "The job was cancelled"),
    jobs.UploadTooLarge: (HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "The body is larger than allowed"),
    jobs.QuotaExceeded: (HTTPStatus.TOO_MANY_REQUESTS, "You have as much as you may"),
    api.RateExceeded: (HTTPStatus.TOO_MANY_REQUESTS, "You ask too often"),
    jobs.StorageFull: (HTTPStatus.INSUFFICIENT_STORAGE, "The server has no room for the file"),
    jobs.StoreUnavailable: (HTTPStatus.SERVICE_UNAVAILABLE, "The files cannot be reached"),
    jobs.IdempotencyConflict: (HTTPStatus.UNPROCESSABLE_ENTITY, "The idempotency key was used for another request"),
}

# These end a job or a check instead of a request, and are read in its `error`.
JOB_ONLY = frozenset(
    {
        faal.WeightsAmbiguous,
        faal.WeightsMismatch,
        faal.ClassifierUnsuitable,
        faal.DatasetInvalid,
        faal.TrainingDiverged,
        faal.LedgerMismatch,
        faal.OutOfMemory,
        faal.OutOfTime,
        jobs.LeaseLost,
    }
)

# What the framework refuses by itself, by status.
FRAMEWORK: Mapping[HTTPStatus, tuple[str, str]] = {
    HTTPStatus.BAD_REQUEST: (api.MalformedBody.code, STATUS[api.MalformedBody][1]),
    HTTPStatus.NOT_FOUND: ("not-found", "There is nothing at this address"),
    HTTPStatus.METHOD_NOT_ALLOWED: ("method-not-allowed", "This address does not take that method"),
    HTTPStatus.REQUEST_TIMEOUT: (api.UploadTooSlow.code, STATUS[api.UploadTooSlow][1]),
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: (jobs.UploadTooLarge.code, STATUS[jobs.UploadTooLarge][1]),
    HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE: ("range-not-satisfiable", "The file has no such part"),
}

TITLES: Mapping[str, tuple[HTTPStatus, str]] = {
    **{kind.code: answered for kind, answered in STATUS.items()},
    **{code: (status, title) for status, (code, title) in FRAMEWORK.items()},
    INTERNAL_ERROR: (HTTPStatus.INTERNAL_SERVER_ERROR, "An error inside the service"),
}
"""Status and title of every code that a request can be answered with."""


class Limit(BaseModel):
    """How much of something one may have at a time, or a minute, and has."""

    model_config = ConfigDict(frozen=True)

    of: Literal["jobs", "bytes", "webhooks", "requests", "pings"]
    most: int
    used: int

    @classmethod
    def of_error(cls, raised: Exception) -> Self | None:
        """The limit that was met, if that is what was raised."""
        if isinstance(raised, jobs.QuotaExceeded):
            return cls(of=raised.of, most=raised.most, used=raised.used)
        return cls(of=raised.of, most=raised.most, used=raised.most) if isinstance(raised, api.RateExceeded) else None


class Problem(BaseModel):
    """An error as RFC 9457 describes it; `type` and `code` are stable, `detail` is for people."""

    model_config = ConfigDict(frozen=True)

    type: str = Field(examples=["/problems/model-not-ready"])
    title: str = Field(examples=["The model cannot be used"])
    status: int = Field(examples=[409])
    code: str = Field(examples=["model-not-ready"])
    detail: str
    instance: str = Field(description="path of the request", examples=["/jobs/finetune"])
    request_id: str = Field(description="also in the header X-Request-Id and in the server's log")
    errors: tuple[FieldError, ...] | None = Field(None, description="the fields that are wrong: the first 20 of them")
    limit: Limit | None = Field(None, description="with the codes quota-exceeded and rate-exceeded")
    error: ErrorBody | None = Field(None, description="the job's own error, with the code job-failed")


def problem_of(request: Request, raised: Exception) -> Problem:
    """The problem for whatever was raised; an error nobody expected tells nothing of the inside."""
    fields: Sequence[FieldError] = ()
    own: ErrorBody | None = None
    match raised:
        case ApiError() | FaalError() | JobsError() if type(raised) in STATUS:
            (status, title), code, detail = STATUS[type(raised)], raised.code, raised.message
            fields = raised.fields if isinstance(raised, ApiError) else ()
            own = ErrorBody.of(raised.problem) if isinstance(raised, jobs.JobFailed) else None
        case RequestValidationError():
            return problem_of(request, _what_fastapi_found(raised))
        case HTTPException():
            status = HTTPStatus(raised.status_code)
            code, title = FRAMEWORK.get(status, (status.phrase.lower().replace(" ", "-"), status.phrase))
            here = f"{request.method} {request.url.path} is not answered here; /openapi.json lists what is."
            detail = here if raised.detail == status.phrase else raised.detail
        case _:
            code = INTERNAL_ERROR
            status, title = TITLES[code]
            detail = "The server met an error it did not expect; its log has more under the request id."
    return Problem(
        type=f"/problems/{code}",
        title=title,
        status=status,
        code=code,
        detail=shortened(detail, _LONGEST_DETAIL),
        instance=shortened(request.url.path, _LONGEST_INSTANCE),
        request_id=request.state.request_id,
        errors=tuple(fields) or None,
        limit=Limit.of_error(raised),
        error=own,
    )


def headers_of(raised: Exception) -> dict[str, str]:
    """The headers that go with the problem."""
    if isinstance(raised, HTTPException):
        return dict(raised.headers or {})
    if isinstance(raised, api.KeyRequired | jobs.KeyRefused):
        return {"WWW-Authenticate": "Bearer"}
    if isinstance(raised, api.UploadTooSlow):
        return {"Connection": "close"}  # else the server would wait for the rest
    if isinstance(raised, api.RateExceeded):
        return {"Retry-After": str(raised.seconds)}
    if isinstance(raised, jobs.QuotaExceeded):
        return {"Retry-After": "60"}
    return (
        {"Retry-After": "5"}
        if isinstance(raised, api.DatabaseUnavailable | api.ServiceBusy | api.ServiceNotReady | jobs.StoreUnavailable)
        else {}
    )


def _methods_of(request: Request) -> str:
    """The methods that the address takes, whichever routes take them (RFC 9110, section 10.2.1)."""
    routes = request.app.routes
    taken = (method for method in HTTPMethod if any(_takes(route, request.scope, method) for route in routes))
    return ", ".join(taken)


def _takes(route: BaseRoute, scope: Scope, method: str) -> bool:
    return route.matches({**scope, "method": method})[0] is Match.FULL


def _what_fastapi_found(raised: RequestValidationError) -> ApiError:
    """Our error for what FastAPI found wrong in parameters and body."""
    details = list(relevant(raised.errors()))
    if details[0]["type"] == "json_invalid":
        return api.MalformedBody(f"The body is not JSON: {details[0]['ctx']['error']}.")
    fields = []
    for found in details[:MAX_ERRORS]:
        source, *location = found["loc"]
        field = FieldError.of({**found, "loc": tuple(location)}, raised.body)
        fields.append(field if source == "body" else FieldError(parameter=str(location[-1]), detail=field.detail))
    first = f"{fields[0].parameter or fields[0].pointer or 'body'}: {fields[0].detail}"
    return api.InvalidRequest(first + and_more(len(details) - 1), *fields)


def answer(request: Request, raised: Exception) -> JSONResponse:
    """The problem as a response."""
    problem = problem_of(request, raised)
    if problem.code == INTERNAL_ERROR:
        logger.error("request %s failed: %s %s", problem.request_id, request.method, problem.instance)
    headers = {**headers_of(raised), "X-Request-Id": problem.request_id}
    if problem.status == HTTPStatus.METHOD_NOT_ALLOWED:
        headers["Allow"] = _methods_of(request) or "GET, HEAD"  # of files, which have no route of their own
    return JSONResponse(problem.model_dump(exclude_none=True), problem.status, headers, MEDIA_TYPE)


def _answer_for_database(request: Request, raised: Exception) -> JSONResponse:
    """The problem of a database that is away; what else it raises is a defect of ours. Raises: `raised`."""
    if not unavailable(raised):
        raise raised
    logger.error("the database failed: %s", raised)
    return answer(request, api.DatabaseUnavailable("The database does not answer; try again in a moment."))


def install(app: FastAPI) -> None:
    """Let every error of `app` answer with a problem."""
    for family in (ApiError, FaalError, JobsError, RequestValidationError, HTTPException, Exception):
        app.add_exception_handler(family, answer)
    app.add_exception_handler(DatabaseFailure, _answer_for_database)
