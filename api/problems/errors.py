"""What can go wrong because there is HTTP; the status of each stands in api/problems/answers.py.

ApiError
├── InvalidRequest        invalid-request        a field, parameter or form part is missing or wrong
├── MalformedBody         malformed-body         the body is not the JSON or multipart form it says it is
├── UnsupportedFile       unsupported-file       the uploaded file is of a kind that is not accepted
├── DigestMismatch        digest-mismatch        the body or file is not the one its digest was sent for
├── UploadTooSlow         upload-too-slow        too little of an upload or another body arrives
├── KeyRequired           key-required           there are API keys and none was sent
├── UnknownHost           unknown-host           there are no API keys, and the request is for a name that is not ours
├── ScopeMissing          scope-missing          the API key does not allow that
├── CrossSiteRequest      cross-site-request     a page of another site tried to change something here
├── RateExceeded          rate-exceeded          the owner asks more often than they may
├── DatabaseUnavailable   database-unavailable   the database does not answer, or not in time
├── ServiceBusy           service-busy           as many uploads or event streams are open as can be served
└── ServiceNotReady       service-not-ready      the database, storage or broker is out of order
"""

from collections.abc import Sequence
from typing import ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError, ValidationInfo, field_validator
from pydantic_core import ErrorDetails

from faal_core.specs.field_errors import explain, first_errors, shortened, steps_in

_LONGEST_POINTER = 200  # characters; a key of the body can have a million
_IN_MESSAGE = 5  # errors that a message repeats, so that it stays one a person reads
_LONGEST_DETAIL = 400  # characters; a value that a detail quotes can have a million


class FieldError(BaseModel):
    """One thing that is wrong with a request, and where."""

    model_config = ConfigDict(frozen=True)

    pointer: str | None = Field(
        None,
        description="JSON pointer (RFC 6901) into the body or form; one of more than 200 characters is cut and ends with …",
        examples=["/threat/epsilon"],
    )
    parameter: str | None = Field(None, description="the query, path or header parameter", examples=["limit"])
    detail: str = Field(examples=["a radius is positive and finite, not 0"])

    @field_validator("pointer", "detail", mode="before")
    @classmethod
    def _bounded(cls, text: str | None, info: ValidationInfo) -> str | None:
        """Cut what the client wrote; a cut text ends with "…"."""
        most = _LONGEST_POINTER if info.field_name == "pointer" else _LONGEST_DETAIL
        return None if text is None else shortened(text, most)

    @classmethod
    def of(cls, found: ErrorDetails, body: JsonValue, root: str = "") -> "FieldError":
        """What pydantic found wrong in `body`, which itself lies at the pointer `root`."""
        return cls(pointer=root + json_pointer(found["loc"], body), detail=explain(found))


def json_pointer(location: Sequence[str | int], body: JsonValue) -> str:
    """Return the JSON pointer of pydantic's `location` in `body`, without the names of union members."""
    return "".join(f"/{str(step).replace('~', '~0').replace('/', '~1')}" for step in steps_in(location, body))


def and_more(errors: int) -> str:
    """Return the end of a message that counts the errors it does not list."""
    return f" (and {errors:,} more)" if errors else ""


class ApiError(Exception):
    """An error that only exists because there is HTTP; `fields` says where in the request it lies."""

    code: ClassVar[str]

    def __init__(self, message: str, *fields: FieldError) -> None:
        super().__init__(message)
        self.message = message
        self.fields = fields


class InvalidRequest(ApiError):
    """A field, parameter or form part is missing or wrong."""

    code = "invalid-request"

    @classmethod
    def at(cls, pointer: str, detail: str) -> "InvalidRequest":
        """The error for one field of the body or form."""
        return cls(f"{pointer.removeprefix('/')}: {detail}", FieldError(pointer=pointer, detail=detail))

    @classmethod
    def of(cls, error: ValidationError, body: JsonValue, root: str = "") -> "InvalidRequest":
        """Return the error for what pydantic found wrong in `body`, which lies at the pointer `root`: the first 20 errors."""
        first, more = first_errors(error)
        fields = [FieldError.of(found, body, root) for found in first]
        sentences = [f"{field.pointer or 'the form'}: {field.detail}" for field in fields]
        message = "; ".join(sentences[:_IN_MESSAGE])
        return cls(message + and_more(len(sentences[_IN_MESSAGE:]) + more), *fields)


class MalformedBody(ApiError):
    """The body is not the JSON or multipart form it says it is."""

    code = "malformed-body"


class UnsupportedFile(ApiError):
    """The uploaded file is of a kind that is not accepted."""

    code = "unsupported-file"


class DigestMismatch(ApiError):
    """The body or file is not the one its digest was sent for."""

    code = "digest-mismatch"


class UploadTooSlow(ApiError):
    """Too little of an upload arrives, so others shall have its place."""

    code = "upload-too-slow"


class KeyRequired(ApiError):
    """There are API keys and none was sent."""

    code = "key-required"


class UnknownHost(ApiError):
    """There are no API keys, and the request is for a name that is not one of this service."""

    code = "unknown-host"


class ScopeMissing(ApiError):
    """The API key does not allow that."""

    code = "scope-missing"


class CrossSiteRequest(ApiError):
    """A page of another site tried to change something here."""

    code = "cross-site-request"


class RateExceeded(ApiError):
    """The owner asks more often than they may.

    Args:
        rule: a sentence's beginning that says what is allowed.
        of: what is counted.
        most: how many are allowed a minute.
        seconds: until there is room again.
    """

    code = "rate-exceeded"

    def __init__(self, rule: str, *, of: Literal["requests", "pings"], most: int, seconds: int) -> None:
        super().__init__(f"{rule}; there is room again in {seconds:,} s.")
        self.of, self.most, self.seconds = of, most, seconds


class DatabaseUnavailable(ApiError):
    """The database does not answer, or not in time."""

    code = "database-unavailable"


class ServiceBusy(ApiError):
    """As many uploads or event streams are open as can be served."""

    code = "service-busy"


class ServiceNotReady(ApiError):
    """The database, storage or broker is out of order."""

    code = "service-not-ready"
