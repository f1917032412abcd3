"""The explanation of one code."""

from dataclasses import dataclass
from http import HTTPStatus


@dataclass(frozen=True, slots=True)
class Explanation:
    """The cause of a code in the error of a job or an upload, and its remedy. Field and setting names are in backticks."""

    title: str
    cause: str
    remedy: str


@dataclass(frozen=True, slots=True)
class ProblemExplanation(Explanation):
    """The cause of a code that answers a request, its remedy, and the HTTP status of the answer."""

    status: HTTPStatus
