"""Celery tasks: event batches, scheduled rebuilds, replay, and the ledger of their runs."""
