"""`python -m worker`: runs jobs, one at a time, until it is asked to stop."""

import sys

from jobs import logs, startup
from worker.app import serve

with startup.exit_on_fault():
    settings = startup.read_settings()
    logs.configure(settings.log_format)
    startup.prepare(settings, settings.data_dir, settings.checkpoints_dir)
sys.exit(serve(settings))
