"""A Celery worker around a supervisor, with a sweep beside it.

Celery's part is small: it takes one message at a time and calls the task in a thread, which only waits for the job's
process. It uses the thread pool and not the solo pool: with solo the acknowledgement waits for the end of the job (Redis would
deliver the message again after its visibility time-out), and a lost connection is noticed only then. Beside it an idle
worker looks for jobs after each of its sweeps, whatever the broker does.
"""

import logging
import signal
from collections.abc import Collection, Iterator
from contextlib import contextmanager

from celery import Celery
from celery.apps.worker import Worker
from celery.signals import setup_logging, worker_shutting_down

from jobs.database import open_database
from jobs.queue import celery_app, queue_name
from jobs.settings import Settings
from worker import tasks
from worker.claiming import Claimer
from worker.recovery import Sweeper
from worker.supervisor import Supervisor, job_environment
from worker.warm_process import WarmProcess, is_supported

logger = logging.getLogger(__name__)

_LISTEN_AGAIN_SECONDS = 5.0
WARM_MODULES = ("worker.job_process", "worker.helper_process", "worker.upload_reading", "scipy.optimize")
_OF_NAMED_DATASETS = "faal_core.torchvision_import"


class _Worker(Worker):  # type: ignore[misc]  # Celery has no types
    """Celery's worker, which treats Ctrl-C and SIGQUIT like SIGTERM; Celery's own handlers leave the job running."""

    def install_platform_tweaks(self, worker: Worker) -> None:
        """Install the signal handlers."""
        super().install_platform_tweaks(worker)
        for number in (signal.SIGINT, signal.SIGQUIT):
            signal.signal(number, signal.getsignal(signal.SIGTERM))


def serve(settings: Settings) -> int:
    """Run jobs until asked to stop, and return the exit status; the running job is stopped and released first."""
    with _start_warm_process(settings) as warm:
        return _serve(settings, warm)


@contextmanager
def _start_warm_process(settings: Settings) -> Iterator[WarmProcess | None]:
    """Yield a warm process with the libraries of jobs; None where the system has none."""
    if not is_supported():
        yield None
        return
    modules = (*WARM_MODULES, *([_OF_NAMED_DATASETS] if settings.dataset_root else []))
    with WarmProcess(modules, job_environment(settings)) as warm:
        yield warm


def _serve(settings: Settings, warm: WarmProcess | None) -> int:
    sessions = open_database(settings.database_url, pooled=False)
    supervisor = Supervisor(settings, sessions, warm)
    app = celery_app(settings)
    app.conf.worker_cancel_long_running_tasks_on_connection_loss = (
        True  # concerns late acknowledgements, which we do not use
    )
    tasks.bind(app, supervisor)

    def configure_logging(**_: object) -> None:
        """Receive the signal: Celery leaves logging alone when its signal has a receiver."""

    def stop(**_: object) -> None:
        supervisor.stop()

    setup_logging.connect(configure_logging)
    worker_shutting_down.connect(stop)
    with Claimer(supervisor) as claimer, Sweeper(settings, sessions, after_sweep=claimer.wake):
        while not _listen(app, [queue_name(None), queue_name(settings.pool)]):
            logger.error("the broker answered with an error; the worker connects again in %g s", _LISTEN_AGAIN_SECONDS)
            if supervisor.wait_for_stop(within_seconds=_LISTEN_AGAIN_SECONDS):
                break
    return 0


def _listen(app: Celery, queues: Collection[str]) -> bool:
    """Run Celery's worker. Return true when it was asked to stop, and false when an error of the broker has ended it.

    Celery restores a lost connection by itself. It ends when the broker answers with an error, as a Redis without memory does.
    """
    worker = _Worker(
        app=app,
        pool="threads",
        concurrency=1,
        queues=list(set(queues)),
        quiet=True,
        without_gossip=True,
        without_mingle=True,
        without_heartbeat=True,
    )
    worker.start()
    return not worker.exitcode
