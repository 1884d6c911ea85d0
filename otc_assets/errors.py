"""The root of the project's exceptions.

An ``OtcError`` is an error that a user can act on: its message says what is wrong and where, its remedy what to do.
Every other exception that reaches the command line is a bug. Each package declares its own subclasses.
"""

from __future__ import annotations


class OtcError(Exception):
    """An error whose text is written for users.

    Args:
        message: what is wrong, and where.
        remedy: what to do about it; empty if the message says so, or if there is nothing to do.

    >>> str(OtcError("port 3000 is in use", remedy="Choose another port: --port."))
    'port 3000 is in use. Choose another port: --port.'
    """

    def __init__(self, message: str, *, remedy: str = "") -> None:
        super().__init__(f"{message}. {remedy}" if remedy else message)
        self.remedy = remedy
