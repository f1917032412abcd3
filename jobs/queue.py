"""The queue: Celery messages that carry only a job's id. The jobs table knows which jobs wait."""

import logging
from contextlib import suppress
from pathlib import Path

from celery import Celery

from jobs.settings import FOLDER_BROKER, Settings

logger = logging.getLogger(__name__)

RUN_JOB = "faal.run_job"
"""Name of the only task; its argument is a job's id."""

_COMMON = "faal"
_TRIAL = "faal-trial"  # the queue of test messages, which are received at once
RING_SECONDS = 2.0
POLL_SECONDS = 30.0  # above Celery's long polls of 10 s, which redis-py's own time-out of 5 s would cut


class Queue:
    """Rings workers. It holds connections and may be used by many threads: one is enough for a process."""

    def __init__(self, settings: Settings) -> None:
        self._app = celery_app(settings)
        # A request waits for the ring: one retry for a connection gone stale, and short time-outs.
        retries = {"max_retries": 1, "interval_start": 0.0, "interval_step": 0.1, "interval_max": 0.1}
        patience = {"socket_timeout": RING_SECONDS, "socket_connect_timeout": RING_SECONDS}
        self._app.conf.task_publish_retry_policy = retries
        self._app.conf.broker_transport_options |= {**retries, **patience, "connect_retries_timeout": RING_SECONDS}

    def ring(self, job_id: str, pool: str | None = None) -> bool:
        """Send a job's id to the workers, and return whether the broker took the message within a few seconds.

        If it did not, an idle worker finds the job itself.

        Args:
            pool: of the workers that receive the message; all workers when absent.
        """
        try:
            self._app.send_task(RUN_JOB, args=(job_id,), queue=queue_name(pool))
        except Exception as error:  # noqa: BLE001 - whatever a broker's client raises, the job is safe in its table
            logger.warning(
                "the broker did not take the message for %s; an idle worker will find the job: %s", job_id, error
            )
            return False
        return True

    def takes_messages(self) -> bool:
        """Return whether the broker takes a message and delivers it within a few seconds; a full one does not."""
        try:
            with self._app.connection_for_write() as connection:
                connection.ensure_connection(max_retries=1, timeout=RING_SECONDS)
                # Another process may have taken the message.
                with connection.SimpleQueue(_TRIAL) as queue, suppress(queue.Empty):
                    queue.put({})
                    queue.get_nowait().ack()
        except Exception as error:  # noqa: BLE001 - as in `ring`
            logger.warning("the broker takes no messages: %s", error)
            return False
        return True


def queue_name(pool: str | None) -> str:
    """Return the name of the broker's queue for workers of that pool; without a pool, that of the queue for all workers."""
    return _COMMON if pool is None else f"{_COMMON}-{pool}"


def celery_app(settings: Settings) -> Celery:
    """Return a Celery app for jobs: a message is acknowledged at once, delivered alone, and has no result."""
    app = Celery("faal", set_as_current=False)
    app.conf.update(
        broker_url=settings.broker_url,
        broker_connection_retry_on_startup=True,
        broker_connection_timeout=RING_SECONDS,
        broker_connection_max_retries=None,
        task_ignore_result=True,
        task_acks_late=False,
        task_default_queue=_COMMON,
        worker_prefetch_multiplier=1,
        worker_enable_remote_control=False,
        worker_send_task_events=False,
        worker_hijack_root_logger=False,
        worker_redirect_stdouts=False,
    )
    if settings.broker_url.startswith(FOLDER_BROKER):
        folder = Path(settings.broker_url.removeprefix(FOLDER_BROKER)).absolute()
        folder.mkdir(parents=True, exist_ok=True)
        app.conf.broker_url = "folder://localhost"  # kombu warns where a URL names no host
        app.conf.broker_transport = "jobs.folder_broker:Transport"
        app.conf.broker_transport_options = {"folder": str(folder)}
    else:
        app.conf.broker_transport_options = {"socket_timeout": POLL_SECONDS, "socket_connect_timeout": RING_SECONDS}
        app.conf.worker_disable_prefetch = True
    return app
