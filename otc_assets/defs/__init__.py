"""Everything that Dagster loads, and the only package that imports it: assets, checks, jobs, schedules, sensors.

What they do is in ``pipeline``; names that Dagster does not publish are in ``internals``.
"""
