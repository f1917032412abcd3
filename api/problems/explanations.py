"""Explanations of the codes: title, cause and remedy, for `/problems/<code>` and docs/reference/problems.md.

`PROBLEMS` has the codes that answer requests, each with its HTTP status. `JOB_ERRORS` has the codes in the `error` of a job or an
upload. A code can be in both, with a different cause in each.
"""

from collections.abc import Mapping
from typing import NamedTuple

from api.problems.explanation import Explanation, ProblemExplanation
from api.problems.job_errors import JOB_ERRORS
from api.problems.object_problems import OBJECT_PROBLEMS
from api.problems.request_problems import REQUEST_PROBLEMS


class Section(NamedTuple):
    """Codes that a page explains together."""

    heading: str
    introduction: str
    explanations: Mapping[str, Explanation]


PROBLEMS: Mapping[str, ProblemExplanation] = {**REQUEST_PROBLEMS, **OBJECT_PROBLEMS}

SECTIONS = (
    Section("Requests", "The service answers any request with these codes.", REQUEST_PROBLEMS),
    Section(
        "Jobs, models and data sets",
        "The service answers requests about jobs, models, data sets and other objects with these codes.",
        OBJECT_PROBLEMS,
    ),
    Section(
        "Errors of jobs and uploads",
        "A job that failed, and an upload that was rejected, have one of these codes in their `error`. The problem `job-failed` "
        "repeats it in its own `error`. In a job's `error` a code has no HTTP status; the "
        "same code as a refusal has the status above.",
        JOB_ERRORS,
    ),
)


def explain_code(code: str) -> list[Explanation]:
    """Return the explanations of a code: as the answer to a request, then as the error of a job. Empty for an unknown code."""
    return [table[code] for table in (PROBLEMS, JOB_ERRORS) if code in table]
