"""The database: connections, migrations, loading, reading, events, and the embedded server.

Everything that uses SQL is here. What the figures mean is in ``domain``.
"""
