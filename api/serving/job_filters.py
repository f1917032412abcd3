"""The parameters by which lists of jobs are filtered and sorted, in the API and on the page."""

import re
from collections.abc import Sequence
from typing import Annotated

from fastapi import Query

from api.problems.errors import InvalidRequest
from api.schemas.requests import METADATA_KEY, Line
from faal_client.resources.problems import FieldError
from jobs.job_order import JOB_ORDER, SEARCHED

MetadataPairs = Annotated[
    list[Line] | None,
    Query(
        max_length=16,
        description="list only jobs with this metadata, as `key:value`; all given pairs must match, so that two values of one "
        "key match no job",
    ),
]
Search = Annotated[
    Line,
    Query(
        max_length=100,
        description="list only jobs with this text in their id, in the name of their model or data set, or in their metadata; "
        f"only the newest {SEARCHED:,} jobs are searched",
    ),
]
Order = Annotated[
    str,
    Query(
        pattern=JOB_ORDER,
        description="value to sort by: `created`, `epsilon`, `robust_mean`, `robust_worst`, or `metadata.` and a key; after a "
        "minus sign, the largest value comes first. Jobs without the value are not listed. By metadata, only the newest "
        f"{SEARCHED:,} jobs are listed.",
    ),
]


def parse_pairs(items: Sequence[str] | None) -> list[tuple[str, str]]:
    """Return the pairs of texts such as `key:value`. Raises: InvalidRequest."""
    return [_parse_pair(item) for item in items or ()]


def _parse_pair(item: str) -> tuple[str, str]:
    key, separator, value = item.partition(":")
    if not separator or not re.fullmatch(METADATA_KEY, key):
        detail = f"{item!r} is not a key and a value; write it as key:value"
        raise InvalidRequest(detail, FieldError(parameter="metadata", detail=detail))
    return key, value
