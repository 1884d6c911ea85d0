"""What the figures mean: weeks, schema, parsing, normalizing, summaries, rolling, concentration, gaps, quality.

Pure: Polars frames in, Polars frames out. No Dagster, no SQL, no clock, no network, no files.
"""
