"""A simulated FINRA for demos, tests and benchmarks: reproducible from a seed, offline, and full-size.

Formats, sizes, publication lags and revisions are FINRA's, and so are the names of the ATSs, of the largest firms and
of well-known symbols. All figures are invented, and all other names. Publications are generated and served here. They
are read by the same code as FINRA's own.
"""
