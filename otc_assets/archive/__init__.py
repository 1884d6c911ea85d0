"""The raw bytes of every publication, stored indefinitely, by digest.

The bytes are parsed in ``domain.parsing``. Which publication has which digest is in ``warehouse``.
"""
