"""Parts of requests: the address and key of the service, bodies of jobs, and the time that a wait may take."""

import os
import time
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel
from pydantic_core import to_jsonable_python

POLL_SECONDS = 1.0  # between two requests, if the answer has no Retry-After
LARGE = 32 * 2**20  # bytes; a larger file is sent in parts
ASSEMBLY_SECONDS = 900.0  # timeout of the request that joins the parts
SILENCE_SECONDS = 60.0  # without data before an event stream, which pings every 15 s, is considered lost


def find_url(url: str | None) -> str:
    """Return the address of the service: the argument, else FAAL_URL. Raises: ValueError if both are missing."""
    address = url or os.environ.get("FAAL_URL")
    if not address:
        raise ValueError("The address of the service is missing. Pass url='http://…', or set FAAL_URL.")
    return address


def authorise(key: str | None) -> dict[str, str]:
    """Return the header with the API key: the argument, else FAAL_API_KEY. An empty key sends no header.

    Raises: ValueError, without the key in its text, where no header can hold the key.
    """
    secret = ((os.environ.get("FAAL_API_KEY") if key is None else key) or "").strip()
    if not (secret.isascii() and secret.isprintable()):
        raise ValueError("The API key has characters that are not printable ASCII. Copy it again.")
    return {"Authorization": f"Bearer {secret}"} if secret else {}


def once(idempotency_key: str | None) -> dict[str, str]:
    """Return the header that makes repeated requests return the first answer; none without a key."""
    return {} if idempotency_key is None else {"Idempotency-Key": idempotency_key}


def job_body(spec: BaseModel | Mapping[str, Any], fields: Mapping[str, object]) -> dict[str, Any]:
    """Return the body of a job: the settings of the spec, and the fields beside them."""
    settings = spec.model_dump(mode="json") if isinstance(spec, BaseModel) else dict(spec)
    body: dict[str, Any] = to_jsonable_python({**settings, **fields})
    return body


class Deadline:
    """The time at which a wait ends; None for no limit."""

    def __init__(self, seconds: float | None) -> None:
        self._seconds = seconds
        self._at = None if seconds is None else time.monotonic() + seconds

    def bound(self, seconds: float) -> float:
        """Return how long to sleep, at most `seconds`. Raises: TimeoutError after the deadline."""
        if self._at is None:
            return seconds
        left = self._at - time.monotonic()
        if left <= 0:
            raise TimeoutError(f"the wait took longer than {self._seconds:g} s")
        return min(seconds, left)
