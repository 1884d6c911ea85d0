"""Sources of publications: FINRA's Query API, its download files, and a simulator of both.

Publications are found and fetched here, as bytes. The bytes are parsed in ``domain.parsing``.
"""
