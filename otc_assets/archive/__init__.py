"""The raw bytes of every publication, stored indefinitely, by digest; and the journal of what was done with them.

The bytes are parsed in ``domain.parsing``. Which publication has which digest is in ``warehouse``.
"""
