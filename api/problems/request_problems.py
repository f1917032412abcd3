"""Codes that can answer any request."""

from collections.abc import Mapping
from http import HTTPStatus

from api.problems import errors as api
from api.problems.explanation import ProblemExplanation
from jobs import errors as jobs

REQUEST_PROBLEMS: Mapping[str, ProblemExplanation] = {
    api.InvalidRequest.code: ProblemExplanation(
        "The request has missing or wrong fields",
        "A field, a parameter or a part of a form is missing, unknown or out of bounds.",
        "Correct the fields that `errors` lists.",
        HTTPStatus.UNPROCESSABLE_ENTITY,
    ),
    api.MalformedBody.code: ProblemExplanation(
        "The body cannot be read",
        "The body is not valid JSON or not a complete multipart form, or the connection closed early. Or the request "
        "has both `Content-Length` and `Transfer-Encoding`.",
        "Send the whole body again, with one of the two headers. Send uploads as `multipart/form-data`.",
        HTTPStatus.BAD_REQUEST,
    ),
    api.UnsupportedFile.code: ProblemExplanation(
        "The file type is not accepted",
        "The first bytes of the file are not those of a supported type.",
        "Save weights as safetensors or with `torch.save`. Pack data sets as `.npz` or `.zip`.",
        HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    ),
    api.DigestMismatch.code: ProblemExplanation(
        "The content does not match its digest",
        "The SHA-256 of the body or file differs from the one in `Content-Digest` or `Repr-Digest`.",
        "Send it again. If that fails too, compute the digest again: the headers of the form part apply to the file, "
        "those of the request to the whole body.",
        HTTPStatus.BAD_REQUEST,
    ),
    api.UploadTooSlow.code: ProblemExplanation(
        "The body arrives too slowly",
        "Half a megabyte of an upload, or its end, did not arrive within 30 seconds. Or another body was not complete "
        "within 30 seconds.",
        "Send it again over a faster connection. Check that `Content-Length` is the size of the body.",
        HTTPStatus.REQUEST_TIMEOUT,
    ),
    api.KeyRequired.code: ProblemExplanation(
        "API key required",
        "The service has API keys, and the request has none.",
        "Send the header `Authorization: Bearer faal_…`, or sign in at `/login`.",
        HTTPStatus.UNAUTHORIZED,
    ),
    api.UnknownHost.code: ProblemExplanation(
        "The host name is not known",
        "The service has no API keys, and the request's `Host` is not one of the names of the service.",
        "Use `localhost` or an IP address. Or ask the operator to add the name to `FAAL_HOSTS` or to create API keys.",
        HTTPStatus.MISDIRECTED_REQUEST,
    ),
    jobs.KeyRefused.code: ProblemExplanation(
        "API key not accepted",
        "The API key is unknown, revoked or expired.",
        "Ask an administrator of the service for a new key.",
        HTTPStatus.UNAUTHORIZED,
    ),
    api.ScopeMissing.code: ProblemExplanation(
        "The API key lacks a scope",
        "The request needs a scope that the API key does not have: `read`, `submit`, `metrics` or `admin`.",
        "Ask an administrator for a key with the scope that the detail names.",
        HTTPStatus.FORBIDDEN,
    ),
    jobs.KeyNotFound.code: ProblemExplanation(
        "API key not found", "No API key has this id.", "Look up the id with `GET /keys`.", HTTPStatus.NOT_FOUND
    ),
    api.SigningKeyNotFound.code: ProblemExplanation(
        "No signing key",
        "The service has no key, so it does not sign evidence packs.",
        "Ask the operator to set `FAAL_SIGNING_KEY`.",
        HTTPStatus.NOT_FOUND,
    ),
    api.CrossSiteRequest.code: ProblemExplanation(
        "Cross-site request refused",
        "A page of another site tried to change something in this service.",
        "Use the pages of the service, or its API.",
        HTTPStatus.FORBIDDEN,
    ),
    "not-found": ProblemExplanation(
        "Address not found",
        "The service has nothing at this address.",
        "Look up the address in `/openapi.json`.",
        HTTPStatus.NOT_FOUND,
    ),
    "method-not-allowed": ProblemExplanation(
        "Method not allowed",
        "The address does not accept this HTTP method.",
        "Use a method that the header `Allow` lists.",
        HTTPStatus.METHOD_NOT_ALLOWED,
    ),
    "range-not-satisfiable": ProblemExplanation(
        "The range is outside the file",
        "The requested range begins after the end of the file.",
        "Read the size of the file in the header `Content-Range`, and request a range within it.",
        HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE,
    ),
    jobs.UploadTooLarge.code: ProblemExplanation(
        "The body is too large",
        "A file exceeds `FAAL_UPLOAD_LIMIT`, or a JSON body exceeds 1 MiB.",
        "Send a smaller body, or ask the operator to raise the limit.",
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    ),
    jobs.QuotaExceeded.code: ProblemExplanation(
        "Quota exceeded",
        "You have as many unfinished jobs, webhooks, plans, studies or bytes in storage as one owner may have, or as many "
        "links as one report may have. A study needs room for all of its jobs, and every upload needs room, also for content "
        "that you have already.",
        "Read in `limit` which quota it is. Wait until jobs end, delete what you no longer need, or ask the operator "
        "for more.",
        HTTPStatus.TOO_MANY_REQUESTS,
    ),
    api.RateExceeded.code: ProblemExplanation(
        "Too many requests",
        "You send requests, or ping webhooks, more often than one owner may.",
        "Send the request again after `Retry-After` seconds. To follow a job, poll with `If-None-Match` or stream its "
        "events.",
        HTTPStatus.TOO_MANY_REQUESTS,
    ),
    jobs.StorageFull.code: ProblemExplanation(
        "The server's disk is full",
        "The server has no room for the file, and stored no part of it.",
        "Ask the operator to free space, then send it again.",
        HTTPStatus.INSUFFICIENT_STORAGE,
    ),
    jobs.StoreUnavailable.code: ProblemExplanation(
        "The object store is unavailable",
        "The object store does not answer, lacks the bucket or refuses the service.",
        "Try again after `Retry-After` seconds. If it persists, tell the operator.",
        HTTPStatus.SERVICE_UNAVAILABLE,
    ),
    api.DatabaseUnavailable.code: ProblemExplanation(
        "The database is unavailable",
        "The database does not answer, is shutting down, or has no free connection.",
        "Try again after `Retry-After` seconds, with the same `Idempotency-Key`. If it persists, tell the operator.",
        HTTPStatus.SERVICE_UNAVAILABLE,
    ),
    api.ServiceBusy.code: ProblemExplanation(
        "Too many open requests",
        "You have as many uploads, downloads, packs or event streams open as the service allows you at the moment.",
        "Try again after `Retry-After` seconds. Poll a job instead of streaming its events.",
        HTTPStatus.SERVICE_UNAVAILABLE,
    ),
    api.ServiceNotReady.code: ProblemExplanation(
        "The service is not ready",
        "`/readyz` found that the database, the storage or the broker does not work.",
        "Read in `errors` which part failed, and tell the operator.",
        HTTPStatus.SERVICE_UNAVAILABLE,
    ),
    "internal-error": ProblemExplanation(
        "Internal error",
        "The service has a defect.",
        "Report it to the operator with the `request_id`.",
        HTTPStatus.INTERNAL_SERVER_ERROR,
    ),
}
