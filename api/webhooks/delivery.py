"""Takes webhooks' messages to their receivers, signed, for as long as the web service runs.

Format and signature are those of Standard Webhooks (standardwebhooks.com, version 1.0.0), whose libraries check them.
"""

import base64
import hashlib
import hmac
import logging
import time

import anyio
import anyio.to_thread
import httpcore
import httpx

import faal_core
from api.webhooks.egress_policy import Destinations, GuardedBackend, NotAllowed
from jobs import webhooks
from jobs.database import DatabaseFailure, Sessions
from jobs.keys import site_secret
from jobs.settings import Settings
from jobs.webhooks import Due

logger = logging.getLogger(__name__)

LOOK_SECONDS = 2.0
TRY_SECONDS = 15.0  # for a try as a whole, however slowly the answer drips
_PROTOCOL_ERRORS = (httpcore.NetworkError, httpcore.ProtocolError, httpcore.TimeoutException, OSError, UnicodeError)


class Courier:
    """Sends what is due, again and again. Several processes may do so at once: each message is one's at a time."""

    def __init__(self, settings: Settings, sessions: Sessions) -> None:
        self._sessions = sessions
        self._secret = site_secret(settings)
        self._destinations = Destinations(settings.allowed_networks)
        self._tls = httpx.create_ssl_context()

    async def run(self) -> None:
        """Until it is cancelled."""
        while True:
            try:
                while await self._send_due():
                    pass
            except DatabaseFailure as failure:
                logger.warning("webhooks wait for the database: %s", failure)
            except Exception:
                logger.exception("webhooks were not sent; the next try is in %s s", LOOK_SECONDS)
            await anyio.sleep(LOOK_SECONDS)

    async def _send_due(self) -> bool:
        """Whether there were messages to send; they have had a try."""
        # A shutdown does not wait for the database: what an abandoned thread takes is due again later.
        due = await anyio.to_thread.run_sync(self._take, abandon_on_cancel=True)
        async with anyio.create_task_group() as tries:
            for message in due:
                tries.start_soon(self._send, message)
        return bool(due)

    def _take(self) -> list[Due]:
        """What is due. As a rule nothing is, and reading that takes no lock."""
        with self._sessions() as session:
            if not webhooks.any_due(session):
                return []
        with self._sessions.begin() as session:
            return webhooks.take_due(session)

    async def _send(self, message: Due) -> None:
        status, error = None, None
        try:
            with anyio.fail_after(TRY_SECONDS):
                status = await self._post(message)
        except TimeoutError:
            error = f"there was no answer within {TRY_SECONDS:.0f} s"
        except NotAllowed as refused:
            error = str(refused)
        except _PROTOCOL_ERRORS as failure:
            error = f"{type(failure).__name__}: {failure}"[:300]
        await anyio.to_thread.run_sync(self._settle, message, status, error, abandon_on_cancel=True)

    async def _post(self, message: Due) -> int:
        """The status of the receiver's answer, of which nothing else is read."""
        headers = signed_headers(signing_key(self._secret, message.webhook_id), message.id, message.body, time.time())
        backend = GuardedBackend(self._destinations, encrypted=message.url.startswith("https:"))
        async with (
            httpcore.AsyncConnectionPool(self._tls, network_backend=backend) as pool,
            pool.stream("POST", message.url, headers=headers, content=message.body.encode()) as answer,
        ):
            return int(answer.status)

    def _settle(self, message: Due, status: int | None, error: str | None) -> None:
        logger.info("message %s of webhook %s: %s", message.id, message.webhook_id, status or error)
        with self._sessions.begin() as session:
            webhooks.settle(session, message.id, status=status, error=error)


def signing_key(secret: bytes, webhook_id: str) -> bytes:
    """What that webhook's messages are signed with: made of the site's secret, and kept nowhere."""
    return hmac.new(secret, b"webhook " + webhook_id.encode(), hashlib.sha256).digest()


def signing_secret(key: bytes) -> str:
    """The key as receivers are given it."""
    return f"whsec_{base64.b64encode(key).decode()}"


def signed_headers(key: bytes, message_id: str, body: str, at: float) -> list[tuple[str, str]]:
    """The headers of a message that is sent at that time, in seconds since 1970."""
    content = f"{message_id}.{at:.0f}.{body}".encode()
    signature = base64.b64encode(hmac.new(key, content, hashlib.sha256).digest()).decode()
    return [
        ("Content-Type", "application/json"),
        ("User-Agent", f"faal/{faal_core.__version__}"),
        ("webhook-id", message_id),
        ("webhook-timestamp", f"{at:.0f}"),
        ("webhook-signature", f"v1,{signature}"),
    ]
