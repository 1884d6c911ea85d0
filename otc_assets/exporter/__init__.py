"""Metrics for Prometheus: what the database knows, read when somebody scrapes.

Runs are short, so nothing could scrape them; what they leave behind is scraped instead. Here: one module a
source of metrics (``events``, ``tables``, ``storage``, ``orchestrator``), the connection they share
(``database``), and what serves them (``server``). Not here: emitting events, alerting rules, dashboards.
"""
