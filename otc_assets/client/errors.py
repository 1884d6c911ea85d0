"""The errors of the Python client. Each says what is wrong and what to do."""

from __future__ import annotations

from collections.abc import Sequence

from otc_assets.errors import OtcError


class ClientError(OtcError):
    """The root of the client's errors."""


class InvalidQuery(ClientError, ValueError):
    """A parameter has a value that it can't have."""


class Unreachable(ClientError, ConnectionError):
    """There is no database, or it does not answer. The message never contains a password."""


class QueryFailed(ClientError):
    """The server refused the statement, or stopped it after its time-out."""


class TimedOut(QueryFailed):
    """The server stopped the statement after its time-out."""


class NotFinal(ClientError):
    """An answer as of a moment could still change. The message says as of which moments answers are final."""


class UnknownName(ClientError, LookupError):
    """No loaded week has such a symbol or venue.

    Args:
        message: what is wrong.
        remedy: what to do.
        suggestions: names that are near.
    """

    def __init__(self, message: str, *, remedy: str = "", suggestions: Sequence[str] = ()) -> None:
        super().__init__(message, remedy=remedy)
        self.suggestions = list(suggestions)


class NoRows(ClientError, LookupError):
    """No row was found, because the weeks are not loaded. The message says why, week by week and tier by tier."""
