"""What can go wrong because there is HTTP; the status of each stands in api/problems.py.

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
from typing import ClassVar

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError
from pydantic_core import ErrorDetails

from faal_core.specs.field_errors import explain, relevant, steps_in


class FieldError(BaseModel):
    """One thing that is wrong with a request, and where."""

    model_config = ConfigDict(frozen=True)

    pointer: str | None = Field(
        None, description="JSON pointer (RFC 6901) into the body or form", examples=["/threat/epsilon"]
    )
    parameter: str | None = Field(None, description="the query, path or header parameter", examples=["limit"])
    detail: str = Field(examples=["a radius is positive and finite, not 0"])

    @classmethod
    def of(cls, found: ErrorDetails, body: JsonValue, root: str = "") -> "FieldError":
        """What pydantic found wrong in `body`, which itself lies at the pointer `root`."""
        return cls(pointer=root + json_pointer(found["loc"], body), detail=explain(found))


def json_pointer(location: Sequence[str | int], body: JsonValue) -> str:
    """The JSON pointer of pydantic's `location` in `body`, without the names of union members."""
    return "".join(f"/{str(step).replace('~', '~0').replace('/', '~1')}" for step in steps_in(location, body))


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
        """The error for all that pydantic found wrong in `body`, which lies at the pointer `root`."""
        fields = [FieldError.of(found, body, root) for found in relevant(error.errors(include_url=False))]
        return cls("; ".join(f"{field.pointer or 'the form'}: {field.detail}" for field in fields), *fields)


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
    """The owner asks more often than they may."""

    code = "rate-exceeded"

    def __init__(self, most: int, seconds: int) -> None:
        super().__init__(f"You may ask {most:,} times a minute; there is room again in {seconds} s.")
        self.most, self.seconds = most, seconds


class DatabaseUnavailable(ApiError):
    """The database does not answer, or not in time."""

    code = "database-unavailable"


class ServiceBusy(ApiError):
    """As many uploads or event streams are open as can be served."""

    code = "service-busy"


class ServiceNotReady(ApiError):
    """The database, storage or broker is out of order."""

    code = "service-not-ready"
