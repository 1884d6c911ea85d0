"""Reads selections and statements through the connections of a client, and explains why there are no rows.

The methods of the verbs are in ``client``.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Self

import polars as pl

from otc_assets.client.connection import Connections, default_url
from otc_assets.client.explain import check_known, check_names, check_weeks
from otc_assets.client.selection import MomentLike, Selection, ValuesLike, select
from otc_assets.client.weeks import WeeksLike

#: The columns whose values are checked, where a symbol or venue has no rows.
_NAMED = {"symbols": "symbol", "venues": "venue_id"}


class Reader:
    """Reads any verb, any selection, and SQL. It never writes. ``client.Client`` describes its arguments."""

    def __init__(
        self, url: str | None = None, *, decimals: bool = True, timeout: float = 60, connections: int = 4
    ) -> None:
        self._connections = Connections(default_url if url is None else lambda: url, timeout=timeout, most=connections)
        #: How many statements it executes at a time.
        self.connections = connections
        self._decimals = decimals

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connections; using the client again opens new ones."""
        self._connections.close()

    # --- any verb ------------------------------------------------------------------------------------------

    def read(
        self,
        verb: str,
        filters: Mapping[str, ValuesLike] | None = None,
        *,
        weeks: WeeksLike = None,
        as_of: MomentLike = None,
        columns: ValuesLike = None,
        after: Sequence[Any] | None = None,
        limit: int | None = None,
    ) -> pl.DataFrame:
        """Reads rows of any verb; ``otc_assets.client.VERBS`` has them all, with their filters and columns.

        Args:
            verb: its name.
            filters: values by name of the filter.
            weeks: the weeks.
            as_of: a moment with a time zone.
            columns: only these.
            after: the values of the verb's ``order`` in the last row of the page before.
            limit: the largest number of rows.

        Raises:
            ClientError: the selection is not valid, a name does not exist, or the weeks are not loaded.

        >>> otc.read("market_concentration", {"tiers": "ALL"}, weeks="last 12", columns="venue_scope")["venue_scope"][0]
        'ALL'
        """
        selection = select(verb, filters, weeks=weeks, as_of=as_of, columns=columns, after=after, limit=limit)
        return self.rows(selection)

    def rows(self, selection: Selection) -> pl.DataFrame:
        """Reads a selection.

        Raises:
            ClientError: a name does not exist, or the weeks are not loaded.
        """
        selection = self.resolved(selection)
        frame = self._connections.rows(selection.statement())
        self._explain(selection, frame.height, {name: frame[name] for name in _NAMED.values() if name in frame.columns})
        return self._converted(frame)

    def json_rows(self, selection: Selection, *, text_decimals: bool = False) -> list[tuple[Any, ...]]:
        """Reads a selection as JSON: of each row the object, and the values of the verb's ``order``.

        The database writes the objects, in a fifth of the time that a frame and its conversion take. Decimals have no
        zeros at their end.

        Args:
            selection: what is read.
            text_decimals: whether decimals are strings; otherwise they are numbers with all their digits.

        Raises:
            ClientError: a name does not exist, or the weeks are not loaded.

        >>> from otc_assets.client import select
        >>> selection = select("summary", {"symbols": "AAPL"}, weeks="newest", columns=["symbol", "tier"])
        >>> otc.json_rows(selection)[0][0]
        '{"symbol":"AAPL","tier":"NMS Tier 1"}'
        """
        selection = self.resolved(selection)
        rows = self._connections.tuples(selection.json_statement(text_decimals=text_decimals))
        order = selection.verb.order
        found = {name: [row[1 + order.index(name)] for row in rows] for name in _NAMED.values() if name in order}
        self._explain(selection, len(rows), found)
        return rows

    def resolved(self, selection: Selection) -> Selection:
        """The selection with its newest weeks by their dates, as they are now."""
        if not selection.weeks.newest:
            return selection
        found = self._connections.tuples(selection.newest_week())
        weeks = selection.weeks.resolved(found[0][0] if found else None)
        # Of a table without rows there is no newest week.
        return replace(selection, weeks=replace(weeks, newest=0))

    def version(self, selection: Selection) -> tuple[str, dt.datetime | None]:
        """A digest that changes whenever a selected week is loaded, and when the last of them was.

        Of verbs without history, whose weeks may change without a load, nothing is known by it.
        """
        ((version, loaded),) = self._connections.tuples(self.resolved(selection).version())
        return version, loaded

    def _explain(self, selection: Selection, rows: int, found: Mapping[str, Iterable[Any]]) -> None:
        """Refuses names that do not exist, and weeks that are not loaded, unless the rows are of a later page.

        Args:
            selection: what was read.
            rows: their number.
            found: the values in columns of names, as far as the rows have the columns.
        """
        if selection.after is not None or selection.limit == 0:
            return
        for name, column in _NAMED.items():
            if name not in selection.given or selection.verb.filters[name] != column:
                continue
            # Of a full page, and of rows without the column, nothing is known of the names that are not in it.
            complete = selection.limit is None or rows < selection.limit
            have = set(found.get(column, ())) if complete else set()
            given = selection.filters[column]
            if rows and len(given) == 1:
                continue  # they are rows of it
            if missing := [value for value in given if value not in have]:
                check_names(self._query, column, missing, selection.verb)
        if not rows and selection.as_of is not None:
            ((first,),) = self._connections.tuples(selection.first_load())
            check_known(selection, first)
        # That nothing is loaded at all is an answer of the verbs that say what is loaded.
        if not rows and selection.verb.is_of_publications and (selection.weeks or not selection.verb.statement):
            check_weeks(self._query, selection, dt.datetime.now(dt.UTC))

    def _query(self, text: str, params: Any) -> pl.DataFrame:
        return self._connections.query(text, params)

    def _converted(self, frame: pl.DataFrame) -> pl.DataFrame:
        if self._decimals:
            return frame
        return frame.with_columns(
            pl.col(name).cast(pl.Float64) for name, kind in frame.schema.items() if isinstance(kind, pl.Decimal)
        )

    def sql(self, query: str, params: Sequence[Any] | Mapping[str, Any] | None = None) -> pl.DataFrame:
        """The rows of one statement, which can only read.

        Args:
            query: with placeholders ``%s`` or ``%(name)s`` if there are ``params``; a percent sign is then ``%%``.
            params: the values.

        >>> otc.sql("SELECT count(*) AS weeks FROM otc.week_calendar WHERE tier = %s", ["OTC"])["weeks"].item() > 0
        True
        """
        return self._converted(self._connections.query(query, params, isolated=True))
