"""The outside: FINRA's Query API, its download files, and the simulator that stands in for both.

Here: how publications are found and fetched, as bytes. Not here: what the bytes mean (``domain.parsing``).
"""
