"""Metrics for Prometheus, read from the database at every scrape.

Runs are too short to be scraped, so the exporter reads what they have written. There is one module per source of
metrics (``events``, ``tables``, ``storage``, ``orchestrator``); ``database`` is their connection, ``server`` and
``http`` serve them.
"""
