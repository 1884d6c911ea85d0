"""The database: connections, migrations, loading, reading, and the embedded server.

Here: everything that speaks SQL. Not here: what the figures mean (``domain``).
"""
