"""Runs jobs: a Celery worker that supervises, and for each job a fresh process that computes."""

LOG_FORMAT = "%(asctime)s %(levelname)s %(process)d %(name)s: %(message)s"
