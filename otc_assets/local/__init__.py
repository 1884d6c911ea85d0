"""The local installation: the embedded PostgreSQL, and the processes that ``otc-assets up`` starts on this machine.

Deployments on other machines are described in ``helm``. Importing this package imports nothing else; ``embedded`` does
without Dagster.
"""
