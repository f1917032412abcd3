"""`python -m worker`: runs jobs, one at a time, until it is told to stop."""

import sys

from jobs.settings import Settings
from worker.app import serve

sys.exit(serve(Settings()))
