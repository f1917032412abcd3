"""Runs jobs: a Celery worker with a supervisor, and for each job a new process that computes."""
