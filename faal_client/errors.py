"""The errors of the client. The class follows from the code and the status of the service's answer.

ServiceProblem        the service refused a request
├── InvalidRequest    a field, a file or the whole body is wrong: 400, 413, 415, 422
├── Unauthorized      an API key is missing or not accepted: 401
├── Forbidden         the key lacks a scope, or the service does not answer to this host name: 403, 421
├── NotFound          no object has this id: 404
├── Conflict          the object's state does not allow the request: 409, 410
│   ├── JobFailed     the job has no report, since it failed; `problem.error` states the reason
│   └── JobCancelled  the job has no report, since it was cancelled
├── RateLimited       too many requests in the last minute: 429
│   └── QuotaExceeded the owner has as many jobs, bytes or webhooks as allowed; `problem.limit` states which
└── Unavailable       the service cannot answer at the moment: 503, 507
UploadRejected        an upload did not pass its check
"""

from collections.abc import Mapping
from types import MappingProxyType

from httpx import Response
from pydantic import ValidationError

from faal_client.resources.problems import Problem


class ServiceProblem(Exception):
    """The service refused a request; `problem` states the reason, and `code` its stable code."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(f"{problem.title}: {problem.detail}")
        self.problem = problem

    @property
    def code(self) -> str:
        """Return the code, which the service explains at `/problems/<code>`."""
        return self.problem.code


class InvalidRequest(ServiceProblem):
    """A field, a file or the whole body of the request is wrong; `problem.errors` lists the fields."""


class Unauthorized(ServiceProblem):
    """The request has no API key, or one that is not accepted."""


class Forbidden(ServiceProblem):
    """The API key lacks a scope, or the service does not answer to this host name."""


class NotFound(ServiceProblem):
    """No object of yours has this id."""


class Conflict(ServiceProblem):
    """The state of the object does not allow the request."""


class JobFailed(Conflict):
    """The job has no report, since it failed; `problem.error` states the reason."""


class JobCancelled(Conflict):
    """The job has no report, since it was cancelled."""


class RateLimited(ServiceProblem):
    """The owner sent too many requests in the last minute, and the retries did not help."""


class QuotaExceeded(RateLimited):
    """The owner has as many jobs, bytes or webhooks as one owner may have; `problem.limit` states which."""


class Unavailable(ServiceProblem):
    """The service cannot answer at the moment, and the retries did not help."""


class UploadRejected(Exception):
    """An upload was rejected or deleted; the message states the reason."""


_BY_STATUS: Mapping[int, type[ServiceProblem]] = MappingProxyType(
    {
        **dict.fromkeys((400, 413, 415, 422), InvalidRequest),
        401: Unauthorized,
        **dict.fromkeys((403, 421), Forbidden),
        404: NotFound,
        **dict.fromkeys((409, 410), Conflict),
        429: RateLimited,
        **dict.fromkeys((503, 507), Unavailable),
    }
)
_BY_CODE: Mapping[str, type[ServiceProblem]] = MappingProxyType(
    {"job-failed": JobFailed, "job-cancelled": JobCancelled, "quota-exceeded": QuotaExceeded}
)


def check_answer(answer: Response) -> Response:
    """Return the answer to a request that was not refused.

    Raises: ServiceProblem; httpx.HTTPStatusError if something between client and service refused the request.
    """
    if not answer.is_error:
        return answer
    if (problem := read_problem(answer)) is None:
        answer.raise_for_status()
        return answer
    raise _BY_CODE.get(problem.code, _BY_STATUS.get(problem.status, ServiceProblem))(problem)


def read_problem(answer: Response) -> Problem | None:
    """Return the problem in an answer; None if the service did not write the answer."""
    try:
        return Problem.model_validate_json(answer.content)
    except ValidationError:
        return None
