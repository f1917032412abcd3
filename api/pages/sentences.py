"""Replace the parts of messages that name routes of the API, for readers of pages."""

import re

from faal_client.resources.problems import Problem

_REPLACEMENTS = (
    (re.compile(r" by `POST /jobs/compare`"), ""),
    (re.compile(r"the text should match pattern '.+'"), "the text does not have the required form"),
    (re.compile(r"; `GET /\w+` lists them\."), ". It may have been deleted."),
    (re.compile(r"choose one that `GET /catalog` lists as available"), "choose one that the form lists"),
    (re.compile(r"`faal catalog` and GET /catalog list all\."), "choose one that the form lists."),
    (
        re.compile(r"There is no [A-Z]+ (\S+); /openapi\.json lists the addresses and their methods\."),
        r"There is no page \1.",
    ),
)


def write_for_readers(problem: Problem) -> Problem:
    """Return the problem with a detail and field errors that name no routes of the API."""
    errors = problem.errors and tuple(one.model_copy(update={"detail": _rewrite(one.detail)}) for one in problem.errors)
    return problem.model_copy(update={"detail": _rewrite(problem.detail), "errors": errors})


def _rewrite(detail: str) -> str:
    for pattern, replacement in _REPLACEMENTS:
        detail = pattern.sub(replacement, detail)
    return detail
