"""Every error has one status, in one place, and its explanation in docs/problems.md."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest

from api.problems import answers
from api.problems.errors import ApiError
from faal_core.errors import FaalError
from jobs.errors import JOB_ONLY_CODES, FileLost, JobsError
from jobs.states import Outage

PAGE = (Path(__file__).parents[4] / "docs/problems.md").read_text("utf-8")
SECTIONS = dict(re.findall(r"^## ([^\n]+)\n(.*?)(?=^## |\Z)", PAGE, re.DOTALL | re.MULTILINE))
REQUESTS = SECTIONS["Of requests"] + SECTIONS["Of jobs, models and data sets"]
ENDINGS = SECTIONS["In the `error` of a job or an upload"]


def leaves(kind: type[Exception]) -> Iterator[type[Exception]]:
    """The classes of a family that are raised: those without subclasses."""
    children = kind.__subclasses__()
    if not children:
        yield kind
    for child in children:
        yield from leaves(child)


@pytest.mark.parametrize("family", [ApiError, FaalError, JobsError])
def test_every_error_has_a_status_or_never_reaches_a_request(family: type[Exception]) -> None:
    """Each class of the three families is mapped to a status or marked as one that ends jobs, never both."""
    for kind in leaves(family):
        assert (kind in answers.STATUS) != (kind in answers.JOB_ONLY), kind


def test_codes_are_unique() -> None:
    """No two classes that a request can meet share a code, so that programs can go by it."""
    codes = [kind.code for kind in answers.STATUS]
    assert len(codes) == len(set(codes))


def test_the_page_has_every_code_with_its_status() -> None:
    """docs/problems.md lists what requests are answered with: no code is missing, left over or has another status."""
    documented = re.findall(r"^\| `([a-z-]+)` \| (\d+) \| .+ \| .+ \|$", REQUESTS, re.MULTILINE)
    assert sorted(documented) == sorted((code, str(status.value)) for code, (status, _) in answers.TITLES.items())


def test_the_page_has_every_code_that_ends_a_job() -> None:
    """docs/problems.md explains each code that can stand in the error of a job."""
    documented = set(re.findall(r"^\| `([a-z-]+)` \| .+ \| .+ \|$", ENDINGS, re.MULTILINE))
    ending = {kind.code for kind in leaves(FaalError)} | {FileLost.code} | set(get_args(Outage)) | set(JOB_ONLY_CODES)
    assert documented == ending - {"unknown-name"}
