"""The Python client: reads the data of an installation into Polars frames.

>>> from otc_assets.client import Client
>>> otc = Client()
>>> frame = otc.venue_volume("AAPL", weeks="last 12")

``verbs`` declares what can be read; ``selection`` turns what a caller writes into one statement; ``connection`` runs
it; ``explain`` says why there are no rows. The HTTP API and ``otc-assets query`` use the same verbs. Nothing here
writes, and nothing needs Dagster or SQLAlchemy.
"""

from __future__ import annotations

from otc_assets.client.client import Client
from otc_assets.client.errors import (
    ClientError,
    InvalidQuery,
    NoRows,
    NotFinal,
    QueryFailed,
    TimedOut,
    UnknownName,
    Unreachable,
)
from otc_assets.client.selection import Selection, Statement, select
from otc_assets.client.verbs import FILTERS, VERBS, Filter, Verb
from otc_assets.client.weeks import Weeks, parse_weeks

__all__ = [
    "FILTERS",
    "VERBS",
    "Client",
    "ClientError",
    "Filter",
    "InvalidQuery",
    "NoRows",
    "NotFinal",
    "QueryFailed",
    "Selection",
    "Statement",
    "TimedOut",
    "UnknownName",
    "Unreachable",
    "Verb",
    "Weeks",
    "parse_weeks",
    "select",
]
