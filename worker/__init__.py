"""Runs jobs: a Celery worker that supervises, and for each job a fresh process that computes."""
