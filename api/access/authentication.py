"""Authorize requests by API key or by the session of a page, and give routes the service of the key's owner."""

import hashlib
from dataclasses import replace
from typing import Annotated

from fastapi import Depends, Request, Response, Security
from fastapi.security import APIKeyCookie, HTTPAuthorizationCredentials, HTTPBearer, SecurityScopes
from itsdangerous import BadSignature, TimestampSigner

from api.access.hosts import is_own_host
from api.problems.errors import KeyRequired, ScopeMissing, UnknownHost
from api.serving.dependencies import Service, ServiceDep
from faal_client.vocabulary import Scope
from jobs import keys
from jobs.keys import ANYBODY, site_secret
from jobs.settings import MAX_PRIORITY

_OF_ANYBODY = [scope for scope in Scope if scope is not Scope.ADMIN]
SESSION = "faal_session"
SESSION_SECONDS = 12 * 60 * 60

_bearer = HTTPBearer(
    auto_error=False, scheme_name="key", description="an API key, sent as `Authorization: Bearer faal_…`"
)
_cookie = APIKeyCookie(
    name=SESSION, auto_error=False, scheme_name="session", description="the session of a browser, created by /login"
)


def _authorize(
    request: Request,
    service: ServiceDep,
    needed: SecurityScopes,
    sent: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)],
    session: Annotated[str | None, Depends(_cookie)],
) -> Service:
    """Return the service, restricted to the objects of the key's owner.

    Until the first key is created, all clients are one owner, who may do everything except create keys.

    Raises: KeyRequired, KeyRefused, UnknownHost, ScopeMissing, RateExceeded.
    """
    with service.sessions() as database:
        if sent is not None:
            key = keys.authenticate(database, site_secret(service.settings), sent.credentials)
        elif session is not None and (key_id := _read_session(service, session)) is not None:
            key = keys.require_valid(database, key_id)
        elif keys.exist(database):
            raise KeyRequired(
                "The request has no API key. Send one as `Authorization: Bearer faal_…`, or sign in at /login."
            )
        else:
            _require_own_host(request, service)
            key = None
    owner, scopes = (ANYBODY, _OF_ANYBODY) if key is None else (key.owner, key.scopes)
    max_priority = MAX_PRIORITY if key is None else key.max_priority
    request.state.signed_in_as = None if session is None or key is None else owner
    request.state.key_id = None if key is None else key.id
    request.state.scopes = scopes
    if missing := [scope for scope in needed.scopes if scope not in scopes]:
        raise ScopeMissing(
            f"The request needs the scope {missing[0]!r}, and the API key has {', '.join(scopes)}. Use a key with that scope."
        )
    service.rates.count(owner)
    return replace(
        service,
        owner=owner,
        key_id=request.state.key_id,
        key_name=None if key is None else key.name,
        max_priority=max_priority,
        sessions=keys.open_keyless(service.sessions) if key is None else service.sessions.for_owner(owner),
    )


READING = Security(_authorize, scopes=[Scope.READ])
ReaderDep = Annotated[Service, READING]
SharerDep = Annotated[Service, Security(_authorize, scopes=[Scope.READ, Scope.SUBMIT])]
SubmitterDep = Annotated[Service, Security(_authorize, scopes=[Scope.SUBMIT])]
WatcherDep = Annotated[Service, Security(_authorize, scopes=[Scope.METRICS])]
AdminDep = Annotated[Service, Security(_authorize, scopes=[Scope.ADMIN])]


def require_own_host(request: Request, service: ServiceDep) -> None:
    """Check the request's host name, until there are keys. Raises: UnknownHost."""
    with service.sessions() as database:
        if not keys.exist(database):
            _require_own_host(request, service)


def _require_own_host(request: Request, service: Service) -> None:
    host = request.headers.get("Host", "")
    if not is_own_host(host, service.settings):
        raise UnknownHost(
            f"The host name {host[:100]!r} is not a name of this service. Until there are API keys, the service answers only "
            "under its own names. Use localhost, create an API key, or add the name to FAAL_HOSTS."
        )


def sign_in(service: Service, request: Request, response: Response, key: str) -> None:
    """Set the cookie of a session for the holder of a key; the session ends with the key. Raises: KeyRefused."""
    with service.sessions() as database:
        key_id = keys.authenticate(database, site_secret(service.settings), key).id
    response.set_cookie(
        SESSION,
        _make_signer(service).sign(key_id).decode(),
        max_age=SESSION_SECONDS,
        secure=request.url.scheme == "https",
        httponly=True,
        samesite="lax",  # links from other sites open the page, but other sites cannot change anything
    )


def sign_out(response: Response) -> None:
    """Delete the cookie of the session; a copy of the cookie is valid until it expires or its key is revoked."""
    response.delete_cookie(SESSION, httponly=True, samesite="lax")


def _read_session(service: Service, session: str) -> str | None:
    """Return the id of the key that opened the session, or None if the session is invalid or too old."""
    try:
        return _make_signer(service).unsign(session, max_age=SESSION_SECONDS).decode()
    except BadSignature:
        return None


def _make_signer(service: Service) -> TimestampSigner:
    return TimestampSigner(site_secret(service.settings), salt=SESSION, digest_method=hashlib.sha256)
