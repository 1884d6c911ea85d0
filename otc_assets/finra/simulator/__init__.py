"""A FINRA of our own, for demos, tests and benchmarks: seeded, offline, and full-size.

Invented venues, firms, symbols and figures; the shapes, sizes, lags, revisions and traps are FINRA's. It
stands in for what can't be reached here. Here: making publications, and serving them. Not here: reading them.
"""
