"""Pages of a selection: which rows the next one begins after, and what keeps all pages of one state.

A cursor has the key of the last row, and the version of the weeks at the first page. Where a week was loaded since,
the rest is read as of the moment of the first page, so that all pages together are the rows as they were then. Where
no moment is certain to have these rows, the next page is refused. Verbs without history have no version: each of their
pages has the rows of its own time.
"""

from __future__ import annotations

import base64
import binascii
import datetime as dt
import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import polars as pl

from otc_assets.api.problems import Problem
from otc_assets.client import Client, InvalidQuery, Selection
from otc_assets.client.verbs import Verb

#: How often the first page is read again if a load ended meanwhile.
_TRIES = 3
_TICK = dt.timedelta(microseconds=1)


class _Cursor(NamedTuple):
    """What the next page needs.

    Attributes:
        query: a digest of the selection, so that a cursor is not used with other parameters.
        newest: the newest week at the first page, where weeks were counted back from it.
        version: of the weeks at the first page; None of verbs without history.
        moment: as of which the rows are those of the first page; None if that is not certain.
        after: the values of the verb's order in the last row.
    """

    query: str
    newest: dt.date | None
    version: str | None
    moment: dt.datetime | None
    after: tuple[Any, ...]


@dataclass(frozen=True)
class Reading:
    """A page that can be read: its weeks are resolved, and their version is known.

    Attributes:
        selection: of the page, without the limit.
        version: of the weeks, now; None of verbs without history.
        cursor: where it continues; None for a first page.
        query: as in the cursor.
        newest: as in the cursor.
    """

    selection: Selection
    version: str | None
    cursor: _Cursor | None
    query: str
    newest: dt.date | None


def prepared(client: Client, selection: Selection, cursor: str | None) -> Reading:
    """What has to be known before a page is read.

    Raises:
        InvalidQuery: the cursor is not one of this selection.
        Problem: the rows of the first page can't be continued.
    """
    query = digest(selection)
    found = None if cursor is None else _decoded(cursor, selection.verb)
    if found is not None and found.query != query:
        raise InvalidQuery("the cursor is of another query", remedy="Follow the link of a page as it is.")
    if found is None:
        resolved = client.resolved(selection)
        newest = resolved.weeks.spans[-1].last if selection.weeks.newest and resolved.weeks.spans else None
    else:
        newest = found.newest
        weeks = replace(selection.weeks.resolved(newest), newest=0)
        resolved = replace(selection, weeks=weeks, after=found.after)
    version = client.version(resolved)[0] if selection.verb.has_history else None
    return Reading(resolved, version, found, query, newest)


class Rows(NamedTuple):
    """Rows that were read, of which one more than a page.

    Attributes:
        total: their number.
        head: gives the first ones, in the form in which they were read.
        key: gives the values of the verb's order in one of them.
    """

    total: int
    head: Callable[[int], Any]
    key: Callable[[int], tuple[Any, ...]]


#: Reads rows in some form.
Fetch = Callable[[Selection], Rows]


def as_frame(client: Client) -> Fetch:
    """Reads rows as a Polars frame."""

    def fetch(selection: Selection) -> Rows:
        order = selection.verb.order
        keys = tuple(name for name in order if name not in selection.columns)
        frame = client.rows(replace(selection, columns=(*selection.columns, *keys)))
        return Rows(
            frame.height,
            lambda count: frame.head(count).select(selection.columns),
            lambda number: frame.select(order).row(number),
        )

    return fetch


def as_json(client: Client, *, text_decimals: bool) -> Fetch:
    """Reads rows as a list of JSON objects."""

    def fetch(selection: Selection) -> Rows:
        rows = client.json_rows(selection, text_decimals=text_decimals)
        return Rows(len(rows), lambda count: [row[0] for row in rows[:count]], lambda number: rows[number][1:])

    return fetch


def read(client: Client, reading: Reading, limit: int, fetch: Fetch) -> tuple[Any, str | None]:
    """The rows of a page, in the form of ``fetch``, and the cursor of the next one if there is one."""
    selection = replace(reading.selection, limit=limit + 1)
    if reading.cursor is None:
        rows, version, moment = _first(client, selection, reading, fetch)
    else:
        rows = _continued(client, selection, reading, fetch)
        version, moment = reading.cursor.version, reading.cursor.moment
    if rows.total <= limit:
        return rows.head(limit), None
    cursor = _Cursor(reading.query, reading.newest, version, moment, rows.key(limit - 1))
    return rows.head(limit), _encoded(cursor)


def _first(
    client: Client, selection: Selection, reading: Reading, fetch: Fetch
) -> tuple[Rows, str | None, dt.datetime | None]:
    version = reading.version
    for _ in range(_TRIES):
        rows = fetch(selection)
        if rows.total != selection.limit or version is None or selection.as_of is not None:
            return rows, version, None
        # Before the version: a load that ends in between changes it.
        until = client.sql("SELECT otc.known_until() AS moment").item() - _TICK
        now, loaded = client.version(selection)
        if now == version:
            return rows, version, until if loaded is not None and loaded < until else None
        version = now
    return rows, version, None


def _continued(client: Client, selection: Selection, reading: Reading, fetch: Fetch) -> Rows:
    assert reading.cursor is not None
    if selection.as_of is not None or reading.version is None:
        return fetch(selection)
    if reading.version == reading.cursor.version:
        rows = fetch(selection)
        if client.version(selection)[0] == reading.version:
            return rows
    if reading.cursor.moment is None:
        raise Problem(
            "rows-changed",
            "the weeks were loaded again since the first page",
            remedy="Start again with the first page; with as_of, pages do not change.",
        )
    return fetch(replace(selection, as_of=reading.cursor.moment))


def digest(selection: Selection) -> str:
    """A digest of what is selected, the same in every process."""
    values = (selection.weeks, selection.as_of, selection.since, selection.columns, selection.after)
    text = repr((selection.verb.name, sorted(selection.filters.items()), *values))
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


# --- cursors as text -----------------------------------------------------------------------------------


def _encoded(cursor: _Cursor) -> str:
    values = [value.isoformat() if isinstance(value, dt.date) else value for value in cursor.after]
    given = [cursor.query, cursor.newest, cursor.version, cursor.moment]
    texts = [value.isoformat() if isinstance(value, dt.date) else value for value in given]
    return base64.urlsafe_b64encode(json.dumps([*texts, values], separators=(",", ":")).encode()).decode().rstrip("=")


def _decoded(text: str, verb: Verb) -> _Cursor:
    try:
        padded = text + "=" * (-len(text) % 4)
        query, newest, version, moment, after = json.loads(base64.b64decode(padded, b"-_", validate=True))
        pairs = zip(verb.order, after, strict=True)
        return _Cursor(
            str(query),
            None if newest is None else dt.date.fromisoformat(newest),
            None if version is None else str(version),
            None if moment is None else _moment(moment),
            tuple(_value(verb.table.schema[name], value) for name, value in pairs),
        )
    except (ValueError, TypeError, binascii.Error, RecursionError):
        raise InvalidQuery("the cursor is damaged", remedy="Follow the link of a page as it is.") from None


def _value(kind: pl.DataType, value: Any) -> Any:
    if kind == pl.Date:
        return dt.date.fromisoformat(value)
    if kind == pl.Datetime:
        return _moment(value)
    if kind == pl.Int64:
        if not isinstance(value, int) or abs(value) >= 1 << 63:
            raise ValueError(value)
        return value
    if not isinstance(value, str) or "\0" in value:
        raise ValueError(value)
    value.encode()  # no lone surrogates
    return value


def _moment(text: str) -> dt.datetime:
    moment = dt.datetime.fromisoformat(text)
    if moment.tzinfo is None or not 1990 <= moment.year <= 2100:
        raise ValueError(text)
    return moment
