"""The local installation: the embedded PostgreSQL, and the processes that ``otc-assets up`` starts on this machine.

``embedded`` does without Dagster, so that a process that only reads the database can use it. Deployments on several
machines are not in this package.
"""
