"""Use cases: capturing, computing, grading and comparing weeks, as plain functions.

They take a database or connection, an archive, a source and the time. No Dagster, no settings and no clock in here;
formulas and rules are in ``domain``.
"""
