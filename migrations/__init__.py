"""The history of the schema. `python -m alembic revision --autogenerate -m "…"` adds to it."""
