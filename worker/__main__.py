"""`python -m worker`: runs jobs, one at a time, until it is told to stop."""

import sys

from jobs import logs, startup
from worker.app import serve

with startup.faults_in_one_line():
    settings = startup.read_settings()
    logs.configure(settings.log_format)
    startup.prepare(settings, settings.data_dir, settings.checkpoints_dir)
sys.exit(serve(settings))
