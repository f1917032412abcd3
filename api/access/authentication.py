"""Who is asking, by API key or by the session of a page, and the service as far as it is theirs."""

import hashlib
from dataclasses import replace
from typing import Annotated

from fastapi import Depends, Request, Response, Security
from fastapi.security import APIKeyCookie, HTTPAuthorizationCredentials, HTTPBearer, SecurityScopes
from itsdangerous import BadSignature, TimestampSigner

from api.access.hosts import is_own_host
from api.problems.errors import KeyRequired, ScopeMissing, UnknownHost
from api.serving.dependencies import Service, ServiceDep
from jobs import keys
from jobs.keys import Scope, site_secret
from jobs.settings import MAX_PRIORITY

ANYBODY = "local"  # whose everything is as long as there are no keys
_OF_ANYBODY = [scope for scope in Scope if scope is not Scope.ADMIN]
SESSION = "faal_session"
SESSION_SECONDS = 12 * 60 * 60

_bearer = HTTPBearer(auto_error=False, scheme_name="key", description="an API key: `Authorization: Bearer faal_…`")
_cookie = APIKeyCookie(name=SESSION, auto_error=False, scheme_name="session", description="of the pages, by /login")


def _theirs(
    request: Request,
    service: ServiceDep,
    needed: SecurityScopes,
    sent: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)],
    session: Annotated[str | None, Depends(_cookie)],
) -> Service:
    """The service in which the owner of the key sees nothing but their own.

    While no key was ever made everybody is one owner, who may do everything but make keys.

    Raises: KeyRequired, KeyRefused, UnknownHost, ScopeMissing, RateExceeded.
    """
    with service.sessions() as database:
        if sent is not None:
            key = keys.known(database, site_secret(service.settings), sent.credentials)
        elif session is not None and (key_id := _key_of(service, session)) is not None:
            key = keys.still_valid(database, key_id)
        elif keys.exist(database):
            raise KeyRequired("Send an API key as `Authorization: Bearer faal_…`, or sign in at /login.")
        else:
            _require_own_host(request, service)
            key = None
    owner, scopes = (ANYBODY, _OF_ANYBODY) if key is None else (key.owner, key.scopes)
    max_priority = MAX_PRIORITY if key is None else key.max_priority
    request.state.signed_in_as = None if session is None or key is None else owner
    request.state.key_id = None if key is None else key.id
    if missing := [scope for scope in needed.scopes if scope not in scopes]:
        raise ScopeMissing(f"This needs the scope {missing[0]!r}; the key has {', '.join(scopes)}.")
    service.rates.count(owner)
    return replace(
        service,
        owner=owner,
        key_id=request.state.key_id,
        max_priority=max_priority,
        sessions=service.sessions.of(owner),
    )


READING = Security(_theirs, scopes=[Scope.READ])
ReaderDep = Annotated[Service, READING]
SubmitterDep = Annotated[Service, Security(_theirs, scopes=[Scope.SUBMIT])]
WatcherDep = Annotated[Service, Security(_theirs, scopes=[Scope.METRICS])]
AdminDep = Annotated[Service, Security(_theirs, scopes=[Scope.ADMIN])]


def require_own_host(request: Request, service: ServiceDep) -> None:
    """Check the name that a route is asked under, while there are no keys. Raises: UnknownHost."""
    with service.sessions() as database:
        if not keys.exist(database):
            _require_own_host(request, service)


def _require_own_host(request: Request, service: Service) -> None:
    host = request.headers.get("Host", "")
    if not is_own_host(host, service.settings):
        raise UnknownHost(
            f"While there are no API keys, this service answers only under its own names, and {host[:100]!r} is none of them. "
            "Create an API key, or list the name in FAAL_HOSTS."
        )


def sign_in(service: Service, request: Request, response: Response, key: str) -> None:
    """The answer brings a session for the holder of that key; it ends with the key. Raises: KeyRefused."""
    with service.sessions() as database:
        key_id = keys.known(database, site_secret(service.settings), key).id
    response.set_cookie(
        SESSION,
        _signer(service).sign(key_id).decode(),
        max_age=SESSION_SECONDS,
        secure=request.url.scheme == "https",
        httponly=True,
        samesite="lax",  # a link in a letter leads to the page; nothing is changed from elsewhere
    )


def sign_out(response: Response) -> None:
    """The browser forgets the session; whoever kept the cookie has it until it is too old or its key is revoked."""
    response.delete_cookie(SESSION, httponly=True, samesite="lax")


def _key_of(service: Service, session: str) -> str | None:
    """The id of the key that the session was opened with; None when it is not ours or too old."""
    try:
        return _signer(service).unsign(session, max_age=SESSION_SECONDS).decode()
    except BadSignature:
        return None


def _signer(service: Service) -> TimestampSigner:
    return TimestampSigner(site_secret(service.settings), salt=SESSION, digest_method=hashlib.sha256)
