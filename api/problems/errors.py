"""Errors that only the HTTP interface has; api/problems/request_problems.py has the status of each.

ApiError
├── InvalidRequest        invalid-request        a field, parameter or form part is missing or wrong
├── MalformedBody         malformed-body         the body is not valid JSON or not a valid multipart form
├── UnsupportedFile       unsupported-file       the uploaded file is of a kind that is not accepted
├── DigestMismatch        digest-mismatch        the body or file does not match its digest
├── UploadTooSlow         upload-too-slow        too little of an upload or another body arrives
├── KeyRequired           key-required           there are API keys and none was sent
├── UnknownHost           unknown-host           there are no API keys, and the request is for another host name
├── ScopeMissing          scope-missing          the API key lacks the scope for the request
├── CrossSiteRequest      cross-site-request     a page of another site tried to change something
├── RateExceeded          rate-exceeded          the owner sent too many requests in the last minute
├── SigningKeyNotFound    signing-key-not-found  the service has no key to sign evidence packs with
├── DatabaseUnavailable   database-unavailable   the database does not answer, or not in time
├── ServiceBusy           service-busy           no place for another upload, download, pack or event stream is free
└── ServiceNotReady       service-not-ready      the database, storage or broker does not work
"""

from collections.abc import Sequence
from typing import ClassVar, Literal

from pydantic import JsonValue, ValidationError
from pydantic_core import ErrorDetails

from faal_client.resources.problems import FieldError
from faal_core.specs.field_errors import explain, first_errors, steps_in

_IN_MESSAGE = 5  # errors that a message repeats, so that it stays readable


def describe_field(details: ErrorDetails, body: JsonValue, root: str = "") -> FieldError:
    """Return an error of pydantic's in `body`, which itself is at the pointer `root`."""
    return FieldError(pointer=root + json_pointer(details["loc"], body), detail=explain(details))


def json_pointer(location: Sequence[str | int], body: JsonValue) -> str:
    """Return the JSON pointer of pydantic's `location` in `body`, without the names of union members."""
    return "".join(f"/{str(step).replace('~', '~0').replace('/', '~1')}" for step in steps_in(location, body))


def and_more(errors: int) -> str:
    """Return the end of a message that counts the errors it does not list."""
    return f" (and {errors:,} more)" if errors else ""


class ApiError(Exception):
    """An error that only the HTTP interface has; `fields` locates it in the request."""

    code: ClassVar[str]

    def __init__(self, message: str, *fields: FieldError) -> None:
        super().__init__(message)
        self.message = message
        self.fields = fields


class InvalidRequest(ApiError):
    """A field, parameter or form part is missing or wrong."""

    code = "invalid-request"

    @classmethod
    def for_field(cls, pointer: str, detail: str) -> "InvalidRequest":
        """Return the error for one field of the body or form."""
        return cls(f"{pointer.removeprefix('/')}: {detail}", FieldError(pointer=pointer, detail=detail))

    @classmethod
    def from_pydantic(cls, error: ValidationError, body: JsonValue, root: str = "") -> "InvalidRequest":
        """Return the error for pydantic's first 20 errors in `body`, which is at the pointer `root`."""
        first, more = first_errors(error)
        fields = [describe_field(details, body, root) for details in first]
        sentences = [f"{field.pointer or 'the form'}: {field.detail}" for field in fields]
        message = "; ".join(sentences[:_IN_MESSAGE])
        return cls(message + and_more(len(sentences[_IN_MESSAGE:]) + more), *fields)


class MalformedBody(ApiError):
    """The body is not valid JSON or not a valid multipart form."""

    code = "malformed-body"


class UnsupportedFile(ApiError):
    """The uploaded file is of a kind that is not accepted."""

    code = "unsupported-file"


class DigestMismatch(ApiError):
    """The body or file does not match its digest."""

    code = "digest-mismatch"


class UploadTooSlow(ApiError):
    """Too little of an upload arrives, so its place is given to other uploads."""

    code = "upload-too-slow"


class KeyRequired(ApiError):
    """There are API keys and none was sent."""

    code = "key-required"


class UnknownHost(ApiError):
    """There are no API keys, and the request is for a name that is not one of this service."""

    code = "unknown-host"


class ScopeMissing(ApiError):
    """The API key lacks the scope that the request needs."""

    code = "scope-missing"


class CrossSiteRequest(ApiError):
    """A page of another site tried to change something in this service."""

    code = "cross-site-request"


class RateExceeded(ApiError):
    """The owner sent more requests or pings in the last minute than are allowed.

    Args:
        rule: the first sentence of the message, without its full stop.
        resource: the kind of request that is limited.
        most: maximum number per minute.
        seconds: time until the next request is allowed.
    """

    code = "rate-exceeded"

    def __init__(self, rule: str, *, resource: Literal["requests", "pings"], most: int, seconds: int) -> None:
        super().__init__(f"{rule}. Try again in {seconds:,} s.")
        self.resource, self.most, self.seconds = resource, most, seconds


class SigningKeyNotFound(ApiError):
    """The service has no key to sign evidence packs with."""

    code = "signing-key-not-found"


class DatabaseUnavailable(ApiError):
    """The database does not answer, or not in time."""

    code = "database-unavailable"


class ServiceBusy(ApiError):
    """No place for another upload, download, pack or event stream is free for the owner."""

    code = "service-busy"


class ServiceNotReady(ApiError):
    """The database, the storage or the broker does not work."""

    code = "service-not-ready"
