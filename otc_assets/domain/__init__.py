"""Weeks, tables, parsing, normalization, figures, gaps and checks, as pure functions on Polars frames.

Nothing here uses Dagster, SQL, a clock, the network or files.
"""
