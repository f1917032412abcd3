"""Sign the messages of webhooks and send them to their receivers while the web service runs.

Format and signature are those of Standard Webhooks (standardwebhooks.com, version 1.0.0), so its libraries can verify them.
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
from api.webhooks.egress_policy import EgressPolicy, GuardedBackend, NotAllowed
from jobs import webhooks
from jobs.database import DatabaseFailure, Sessions
from jobs.keys import site_secret
from jobs.settings import Settings
from jobs.webhooks import DueMessage

logger = logging.getLogger(__name__)

LOOK_SECONDS = 2.0  # between two reads of the messages table
TRY_SECONDS = 15.0  # for a whole try, also if the answer arrives slowly
_PROTOCOL_ERRORS = (httpcore.NetworkError, httpcore.ProtocolError, httpcore.TimeoutException, OSError, UnicodeError)


class Delivery:
    """Sends the messages whose next try is scheduled for now. Parallel processes never send the same message at once."""

    def __init__(self, settings: Settings, sessions: Sessions) -> None:
        self._sessions = sessions
        self._secret = site_secret(settings)
        self._policy = EgressPolicy(settings.allowed_networks)
        self._tls = httpx.create_ssl_context()

    async def run(self) -> None:
        """Send messages until the task is cancelled."""
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
        """Try to send the scheduled messages once. Return whether there were any."""
        # A shutdown does not wait for the database: a message that an abandoned thread has taken is tried again later.
        due = await anyio.to_thread.run_sync(self._take, abandon_on_cancel=True)
        async with anyio.create_task_group() as tries:
            for message in due:
                tries.start_soon(self._send, message)
        return bool(due)

    def _take(self) -> list[DueMessage]:
        """Take the messages whose next try is scheduled for now. The usual empty read needs no lock."""
        with self._sessions() as session:
            if not webhooks.has_due_messages(session):
                return []
        with self._sessions.begin() as session:
            return webhooks.take_due_messages(session)

    async def _send(self, message: DueMessage) -> None:
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
        await anyio.to_thread.run_sync(self._record, message, status, error, abandon_on_cancel=True)

    async def _post(self, message: DueMessage) -> int:
        """Send a message, and return the status of the receiver's answer; the rest of the answer is not read."""
        headers = sign_message(signing_key(self._secret, message.webhook_id), message.id, message.body, time.time())
        backend = GuardedBackend(self._policy, encrypted=message.url.startswith("https:"))
        async with (
            httpcore.AsyncConnectionPool(self._tls, network_backend=backend) as pool,
            pool.stream("POST", message.url, headers=headers, content=message.body.encode()) as answer,
        ):
            return int(answer.status)

    def _record(self, message: DueMessage, status: int | None, error: str | None) -> None:
        logger.info("message %s of webhook %s: %s", message.id, message.webhook_id, status or error)
        with self._sessions.begin() as session:
            webhooks.record_response(session, message.id, status=status, error=error)


def signing_key(secret: bytes, webhook_id: str) -> bytes:
    """Derive the key that signs the webhook's messages from the site's secret; it is not stored."""
    return hmac.new(secret, b"webhook " + webhook_id.encode(), hashlib.sha256).digest()


def signing_secret(key: bytes) -> str:
    """Return the key as the text that receivers get."""
    return f"whsec_{base64.b64encode(key).decode()}"


def sign_message(key: bytes, message_id: str, body: str, time_sent: float) -> list[tuple[str, str]]:
    """Sign a message, and return its headers. `time_sent` is in seconds since 1970."""
    content = f"{message_id}.{time_sent:.0f}.{body}".encode()
    signature = base64.b64encode(hmac.new(key, content, hashlib.sha256).digest()).decode()
    return [
        ("Content-Type", "application/json"),
        ("User-Agent", f"faal/{faal_core.__version__}"),
        ("webhook-id", message_id),
        ("webhook-timestamp", f"{time_sent:.0f}"),
        ("webhook-signature", f"v1,{signature}"),
    ]
