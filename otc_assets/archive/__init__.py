"""The raw bytes of every publication, for ever, by digest.

Here: stores. Not here: what the bytes mean (``domain.parsing``), which publication has which digest (``warehouse``).
"""
