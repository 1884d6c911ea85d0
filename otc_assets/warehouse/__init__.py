"""The database: connections, migrations, loading, reading, events, retention.

Everything that uses SQL is here. What the figures mean is in ``domain``.
"""
