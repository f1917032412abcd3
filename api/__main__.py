"""`python -m api [--with-worker]`: run the web service until a signal stops it."""

import argparse
import logging
import signal
import sys
from contextlib import nullcontext

import uvicorn

from api.access.hosts import is_loopback
from api.app import create_app
from api.commands.local_worker import WorkerProcess
from api.serving.connections import (
    PATIENCE,
    Capacity,
    Patience,
    Room,
    http_protocol,
    log_shortages_rarely,
    raise_descriptor_limit,
)
from jobs import keys, logs, startup
from jobs.database import open_database
from jobs.settings import Settings

logger = logging.getLogger(__name__)

LOOPBACK = "127.0.0.1"
STOP_SECONDS = 5  # for requests in progress; a client that streams events reconnects


def main(patience: Patience = PATIENCE) -> int:
    """Run the web service with these timeouts until a signal stops it. Return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m api", description="Run the FAAL web service, which FAAL_… variables configure."
    )
    parser.add_argument("--with-worker", action="store_true", help="run a worker too, and restart it when it dies")
    with_worker: bool = parser.parse_args().with_worker
    with startup.exit_on_fault():
        settings = startup.read_settings()
        logs.configure(settings.log_format)
        startup.prepare(settings, settings.data_dir)
        keys.site_secret(settings)  # the service must not start if it cannot verify keys
        app = create_app(settings, patience)
    # uvicorn raises the signal that stopped it a second time. The worker must stop before this process ends.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    capacity = Capacity.for_descriptors(raise_descriptor_limit())
    log_shortages_rarely()
    config = uvicorn.Config(
        app,
        host=_host(settings),
        port=settings.port,
        http=http_protocol(Room(capacity.connections, patience)),
        ws="none",  # the service has no WebSocket routes
        backlog=capacity.backlog,
        log_config=None,
        access_log=False,  # RequestLog logs each answer
        server_header=False,
        timeout_graceful_shutdown=STOP_SECONDS,
    )
    server = uvicorn.Server(config)
    try:
        with WorkerProcess() if with_worker else nullcontext():
            server.run()
    except KeyboardInterrupt:
        return 0
    return 0 if server.started else 1


def _host(settings: Settings) -> str:
    """Return the address to listen on: without API keys and without FAAL_OPEN, the loopback address."""
    sessions = open_database(settings.database_url, pooled=False)
    with sessions() as session:
        closed = keys.exist(session)
    sessions.close()
    if closed or is_loopback(settings.host):
        return settings.host
    if settings.open:
        logger.warning(
            "There are no API keys: every client that reaches %s may do everything (FAAL_OPEN).", settings.host
        )
        return settings.host
    logger.warning(
        "There are no API keys, so the service listens on %s instead of %s. Run `faal-service keys create`, "
        "then restart the service.",
        LOOPBACK,
        settings.host,
    )
    return LOOPBACK


if __name__ == "__main__":
    sys.exit(main())
