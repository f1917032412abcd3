"""Errors as the service answers them (RFC 9457): the problem, the fields that are wrong, and the limit that was exceeded."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator

from faal_client.resources.objects import ErrorBody
from faal_core.specs.field_errors import shorten

_LONGEST_POINTER = 200  # characters; a key of the body can have a million characters
_LONGEST_DETAIL = 400  # characters; a detail can quote a value of a million characters


class FieldError(BaseModel):
    """One error in a request, and its location."""

    model_config = ConfigDict(frozen=True)

    pointer: str | None = Field(
        None,
        description="JSON pointer (RFC 6901) to the field in the body or form; cut after 200 characters, with … at the end",
        examples=["/threat/epsilon"],
    )
    parameter: str | None = Field(None, description="name of the query, path or header parameter", examples=["limit"])
    detail: str = Field(description="the error and its remedy", examples=["a radius is positive and finite, not 0"])

    @field_validator("pointer", "detail", mode="before")
    @classmethod
    def _bounded(cls, text: str | None, info: ValidationInfo) -> str | None:
        """Cut a text that the client wrote; a cut text ends with "…"."""
        most = _LONGEST_POINTER if info.field_name == "pointer" else _LONGEST_DETAIL
        return None if text is None else shorten(text, most)


class Limit(BaseModel):
    """A limit of one owner, at a time or per minute, and the amount in use."""

    model_config = ConfigDict(frozen=True)

    resource: Literal["jobs", "bytes", "webhooks", "links", "plans", "studies", "requests", "pings"] = Field(
        alias="of", description="what is limited"
    )
    most: int = Field(description="the largest allowed amount")
    used: int = Field(description="the amount in use")


class Problem(BaseModel):
    """An error as RFC 9457 describes it; `type` and `code` are stable, `detail` is for people."""

    model_config = ConfigDict(frozen=True)

    type: str = Field(examples=["/problems/model-not-ready"])
    title: str = Field(examples=["The model is not ready"])
    status: int = Field(examples=[409])
    code: str = Field(examples=["model-not-ready"])
    detail: str = Field(description="the cause of this error and its remedy, for people")
    instance: str = Field(description="path of the request", examples=["/jobs/finetune"])
    request_id: str = Field(description="id of the request, also in the header X-Request-Id and in the server's log")
    errors: tuple[FieldError, ...] | None = Field(None, description="the fields that are wrong, at most 20")
    limit: Limit | None = Field(None, description="the exceeded limit, for the codes quota-exceeded and rate-exceeded")
    error: ErrorBody | None = Field(None, description="the error of the job, for the code job-failed")
