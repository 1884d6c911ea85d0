"""Use cases without Dagster: plain functions that take a connection, an archive, a source and a clock.

What a figure means is in ``domain``; assets, jobs and sensors that call these functions are in ``assets`` and
``automation``.
"""
