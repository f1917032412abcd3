"""Every error has one status, in one place, and an explanation, which docs/reference/problems.md repeats."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

from api.problems.errors import ApiError
from api.problems.explanations import PROBLEMS, SECTIONS
from api.problems.job_errors import JOB_ERRORS
from faal_core.errors import FaalError
from jobs.errors import JOB_ONLY_CODES, FileLost, JobsError, LeaseLost
from jobs.states import Outage

ROOT = Path(__file__).parents[4]
FAMILIES: list[type[Any]] = [ApiError, FaalError, JobsError]


def leaves(kind: type[Any]) -> Iterator[type[Any]]:
    """Yield the classes of a family that are raised: those without subclasses."""
    children = kind.__subclasses__()
    if not children:
        yield kind
    for child in children:
        yield from leaves(child)


def test_every_error_has_a_status_or_ends_a_job() -> None:
    """Each class that a request can meet has a status; one of the library may end jobs only, one never leaves the worker."""
    assert [kind for kind in leaves(ApiError) if kind.code not in PROBLEMS] == []
    assert [kind for kind in leaves(JobsError) if kind.code not in PROBLEMS] == [LeaseLost]
    assert [kind for kind in leaves(FaalError) if kind.code not in PROBLEMS and kind.code not in JOB_ERRORS] == []


def test_codes_are_unique() -> None:
    """No two classes that a request can meet share a code, so that programs can rely on it."""
    codes = [kind.code for family in FAMILIES for kind in leaves(family) if kind.code in PROBLEMS]
    assert len(codes) == len(set(codes))
    assert len(PROBLEMS) == sum(len(section.explanations) for section in SECTIONS[:2])


def test_every_code_that_ends_a_job_is_explained() -> None:
    """The explanations of jobs' errors cover exactly the codes that the error of a job can have."""
    ending = {kind.code for kind in leaves(FaalError)} | {FileLost.code} | set(get_args(Outage)) | set(JOB_ONLY_CODES)
    assert set(JOB_ERRORS) == ending - {"unknown-name"}


def test_explanations_are_sentences() -> None:
    """Titles have no full stop; causes and remedies are sentences, and fit into a row of a table."""
    for section in SECTIONS:
        for code, explanation in section.explanations.items():
            assert re.fullmatch(r"[A-Z][^.?!|\n]+", explanation.title), code
            for text in (explanation.cause, explanation.remedy):
                assert re.fullmatch(r"[A-Z`][^|\n]+\.", text), code
                assert text.count("`") % 2 == 0, code
