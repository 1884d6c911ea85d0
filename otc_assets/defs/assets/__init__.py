"""The assets, one module a stage, in the order in which data flows.

Thin: they ask the domain, hand to the warehouse, and report metadata.
"""
