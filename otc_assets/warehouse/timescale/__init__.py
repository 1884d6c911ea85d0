"""Everything that depends on whether the server has TimescaleDB, and in which edition.

The same tables exist on every server. With TimescaleDB they are hypertables; with its community edition they are
compressed, the aggregates are continuous, and jobs maintain both. No module outside this package depends on the
difference. What is kept for how long is in ``retention``; tables are in ``migrations``.
"""
