"""A simulated FINRA for demos, tests and benchmarks: reproducible from a seed, offline, and full-size.

Venues, firms, symbols and figures are invented; formats, sizes, publication lags and revisions are FINRA's.
Publications are generated and served here. They are read by the same code as FINRA's own.
"""
