"""A selection of rows, and the one SQL statement that reads it. Values are bound; names are those of the registry.

Nothing here opens a connection.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import polars as pl

from otc_assets.client.errors import InvalidQuery
from otc_assets.client.verbs import ALL_TIERS, BY_TABLE, FILTERS, HAVE_ALL_TIERS, MOMENT, VERBS, Verb, sql_text
from otc_assets.client.weeks import Weeks, WeeksLike, parse_weeks
from otc_assets.domain.weeks import NEW_YORK, TIERS, tier_of

#: What a filter takes: one value, or several.
ValuesLike = str | Iterable[str] | None
#: What ``as_of=`` takes: a moment with a time zone.
MomentLike = str | dt.datetime | None
#: What ``since=`` takes: such a moment, or a day, which begins at midnight in New York.
SinceLike = str | dt.date | None


class Statement(NamedTuple):
    """A statement with placeholders ``%s``, the values for them, and the columns of its rows."""

    text: str
    params: list[Any]
    schema: pl.Schema


@dataclass(frozen=True, kw_only=True)
class Selection:
    """Rows of a verb. ``select`` makes one from what a caller writes.

    Attributes:
        verb: what is read.
        filters: the values wanted of each column; a column that is not there is not restricted.
        given: the names of the filters that the caller gave.
        weeks: the weeks.
        as_of: the moment at which rows were known; None for today's.
        since: only rows that were replaced from this moment on, of a verb that has `known_to`.
        columns: those of the rows, in this order.
        after: the values of ``verb.order`` in the last row of the page before.
        limit: the largest number of rows.
    """

    verb: Verb
    filters: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    given: frozenset[str] = frozenset()
    weeks: Weeks = field(default_factory=Weeks)
    as_of: dt.datetime | None = None
    since: dt.datetime | None = None
    columns: tuple[str, ...]
    after: tuple[Any, ...] | None = None
    limit: int | None = None

    def statement(self) -> Statement:
        """The statement that reads the selection; ``weeks`` must be resolved."""
        assert not self.weeks.newest, "the newest weeks are not resolved"
        schema = pl.Schema({name: self.verb.table.schema[name] for name in self.columns})
        return Statement(*self._reading(", ".join(self.columns)), schema)

    def json_statement(self, *, text_decimals: bool) -> Statement:
        """The statement that reads each row as a JSON object, and after it the values of ``verb.order``.

        Args:
            text_decimals: whether decimals are strings; otherwise they are numbers with all their digits.
        """
        schema = self.verb.table.schema
        members = [
            f"trim_scale(r.{name}){'::text' if text_decimals else ''} AS {name}"
            if isinstance(schema[name], pl.Decimal)
            else f"r.{name}"
            for name in self.columns
        ]
        row = f"(SELECT row_to_json(x) FROM (SELECT {', '.join(members)}) x)::text"  # noqa: S608 - names of the registry
        order = {name: schema[name] for name in self.verb.order}
        return Statement(*self._reading(", ".join([row, *order])), pl.Schema({"json": pl.String(), **order}))

    def _reading(self, selected: str) -> tuple[str, list[Any]]:
        source, params = self._source()
        conditions, values = self._conditions()
        text = f"SELECT {selected} FROM {source} r"  # noqa: S608 - names of the registry
        if conditions:
            text += f" WHERE {' AND '.join(conditions)}"
        text += f" ORDER BY {', '.join(self.verb.order)}"
        params += values
        if self.limit is not None:
            text += " LIMIT %s"
            params.append(self.limit)
        return text, params

    def newest_week(self) -> Statement:
        """The statement that reads the newest week in the selected tiers, as of the moment."""
        whole = replace(self, weeks=Weeks(), after=None, filters={c: v for c, v in self.filters.items() if c == "tier"})
        source, params = self._source()
        conditions, values = whole._conditions()
        text = f"SELECT week_ending FROM {source} r"  # noqa: S608 - names of the registry
        if conditions:
            text += f" WHERE {' AND '.join(conditions)}"
        # Not max(): with LIMIT, an index on the week is read from its end, also of a function or several chunks.
        return Statement(
            f"{text} ORDER BY week_ending DESC LIMIT 1", params + values, pl.Schema({"week_ending": pl.Date})
        )

    def version(self) -> Statement:
        """The statement that reads a digest of the loads of the selected weeks, and when the last was.

        A load of one of the weeks changes it, in the same transaction as the rows. Loads of tables without history are
        not recorded. ``weeks`` must be resolved.
        """
        schema = pl.Schema({"version": pl.String(), "loaded": MOMENT})
        return Statement(*self._of_loads(sql_text("version")), schema)

    def first_load(self) -> Statement:
        """The statement that reads when one of the selected weeks was first loaded. ``weeks`` must be resolved."""
        select = f"SELECT min(write_moment) AS loaded FROM ({sql_text('loads')}) AS recorded"  # noqa: S608 - a file of ours
        return Statement(*self._of_loads(select), pl.Schema({"loaded": MOMENT}))

    def _of_loads(self, text: str) -> tuple[str, list[Any]]:
        """A statement on loads, with the conditions that they are of the verb and of the selected weeks."""
        conditions, values = replace(self, filters={}, since=None, after=None)._conditions()
        return f"{text} WHERE {' AND '.join(['loads = %s', *conditions])}", [self.verb.loads, *values]

    def _source(self) -> tuple[str, list[Any]]:
        if self.verb.statement:
            return f"({sql_text(self.verb.statement)})", []
        if self.as_of is not None:
            return f"otc.{self.verb.table.name}_as_of(%s)", [self.as_of]
        return f"otc.{self.verb.table.name}", []

    def _conditions(self) -> tuple[list[str], list[Any]]:
        conditions: list[str] = []
        params: list[Any] = []
        for column, values in self.filters.items():
            conditions.append(f"{column} IN ({_placeholders(values)})")
            params += values
        if self.weeks:
            text, values_of_weeks = _of_weeks(self.weeks)
            conditions.append(text)
            params += values_of_weeks
        if self.since is not None:
            conditions.append("known_to >= %s")
            params.append(self.since)
        if self.after is not None:
            conditions.append(f"({', '.join(self.verb.order)}) > ({_placeholders(self.after)})")
            params += self.after
        return conditions, params


def _placeholders(values: Sequence[Any]) -> str:
    return ", ".join(["%s"] * len(values))


def _of_weeks(weeks: Weeks) -> tuple[str, list[dt.date]]:
    """The condition. Weeks are constants in it: only for those does TimescaleDB exclude chunks when it plans."""
    single = sorted({span.first for span in weeks.spans if span.first and span.first == span.last})
    parts, params = [], list(single)
    if single:
        parts.append(f"week_ending IN ({_placeholders(single)})")
    for span in weeks.spans:
        if span.first is not None and span.first == span.last:
            continue
        bounds = [(">=", span.first), ("<=", span.last)]
        parts.append(" AND ".join(f"week_ending {sign} %s" for sign, day in bounds if day is not None) or "true")
        params += [day for _, day in bounds if day is not None]
    return f"({' OR '.join(parts)})", params


# --- from what a caller writes -------------------------------------------------------------------------


def select(
    verb: str,
    filters: Mapping[str, ValuesLike] | None = None,
    *,
    weeks: WeeksLike = None,
    as_of: MomentLike = None,
    since: SinceLike = None,
    columns: ValuesLike = None,
    after: Sequence[Any] | None = None,
    limit: int | None = None,
) -> Selection:
    """The selection that a caller describes.

    Args:
        verb: a name in ``VERBS``, or that of its table.
        filters: values by name of the filter (``FILTERS``); None leaves a filter out.
        weeks: as ``weeks.parse_weeks`` reads them; None for all.
        as_of: a moment with a time zone, for verbs with history.
        since: for ``revisions``, a day, or a moment with a time zone: only what was replaced from then on. A day
            begins at midnight in New York.
        columns: only these; None for all.
        after: the values of the verb's ``order`` in the last row of the page before.
        limit: the largest number of rows.

    Raises:
        InvalidQuery: a name or a value is not valid. The message has the valid ones.
    """
    verb = BY_TABLE.get(verb, verb)
    if verb not in VERBS:
        raise InvalidQuery(f"there is no {verb!r} to read", remedy=f"There are {', '.join(VERBS)}.")
    found = VERBS[verb]
    given = {name: values_of(values) for name, values in (filters or {}).items() if values is not None}
    if unknown := sorted(set(given) - set(found.filters)):
        raise InvalidQuery(
            f"{verb} can't be filtered by {', '.join(unknown)}",
            remedy=f"It can be by {', '.join(found.filters) or 'weeks only'}.",
        )
    wanted = {name: _checked(found, name, values) for name, values in {**found.defaults, **given}.items()}
    schema, chosen = found.table.schema, values_of(columns) if columns is not None else ()
    if wrong := [name for name in chosen if name not in schema]:
        raise InvalidQuery(f"{verb} has no column {', '.join(wrong)}", remedy=f"It has {', '.join(schema)}.")
    if after is not None and len(after) != len(found.order):
        raise InvalidQuery(f"a page of {verb} continues after values of {', '.join(found.order)}")
    if limit is not None and limit < 0:
        raise InvalidQuery(f"the limit {limit} is below 0")
    return Selection(
        verb=found,
        filters={found.filters[name]: values for name, values in wanted.items()},
        given=frozenset(given),
        weeks=parse_weeks(weeks),
        as_of=_as_of(found, as_of),
        since=_since(found, since),
        columns=tuple(chosen) or tuple(schema),
        after=None if after is None else tuple(after),
        limit=limit,
    )


def values_of(values: ValuesLike) -> tuple[str, ...]:
    """One value, or several, as a tuple without repetitions."""
    found = (values,) if isinstance(values, str) else tuple(dict.fromkeys(values or ()))
    if wrong := [value for value in found if not isinstance(value, str)]:
        raise InvalidQuery(f"{wrong[0]!r} is not text", remedy="Write names as text, for example '116797'.")
    return found


def _checked(verb: Verb, name: str, values: tuple[str, ...]) -> tuple[str, ...]:
    """The values as the column has them."""
    if not values:
        raise InvalidQuery(f"{name} is empty", remedy="Leave it out to read everything.")
    if name == "tiers":
        return _tiers(verb, values)
    choices = FILTERS[name].choices
    by_folded = {choice.casefold(): str(choice) for choice in choices}
    if choices and (wrong := [value for value in values if value.casefold() not in by_folded]):
        raise InvalidQuery(f"{name} can't be {wrong[0]!r}", remedy=f"It can be {', '.join(choices)}.")
    return tuple(by_folded[value.casefold()] for value in values) if choices else values


def _tiers(verb: Verb, values: tuple[str, ...]) -> tuple[str, ...]:
    names = []
    for value in values:
        if value.strip().upper() == ALL_TIERS:
            names.append(ALL_TIERS)
            continue
        try:
            names.append(tier_of(value).name)
        except ValueError as error:
            raise InvalidQuery(str(error)) from None
    if ALL_TIERS in names and verb.table.name in HAVE_ALL_TIERS and len(names) > 1:
        raise InvalidQuery(
            f"tiers={', '.join(values)} would count everything twice: rows of ALL contain the rows of each tier",
            remedy="Ask for ALL, or for tiers.",
        )
    if ALL_TIERS in names and verb.table.name not in HAVE_ALL_TIERS and "kind" not in verb.table.schema:
        have = ", ".join(each.name for each in VERBS.values() if each.table.name in HAVE_ALL_TIERS)
        raise InvalidQuery(
            f"{verb.name} has no rows over all tiers; {have} have them",
            remedy="Leave tiers out: the rows of all three tiers can be added, because each share is in one of them.",
        )
    return tuple(dict.fromkeys(names))


def tiers_of(selection: Selection) -> tuple[str, ...]:
    """The names of FINRA's tiers that the selection reads."""
    names = tuple(tier.name for tier in TIERS)
    chosen = [name for name in selection.filters.get("tier", names) if name in names]
    return tuple(chosen) or names


def _as_of(verb: Verb, as_of: MomentLike) -> dt.datetime | None:
    if as_of is not None and not verb.has_history:
        have = ", ".join(each.name for each in VERBS.values() if each.has_history)
        raise InvalidQuery(f"no history is kept of {verb.name}", remedy=f"It is kept of {have}.")
    return _moment("as_of", as_of)


def _since(verb: Verb, since: SinceLike) -> dt.datetime | None:
    if since is not None and "known_to" not in verb.table.schema:
        raise InvalidQuery(f"{verb.name} takes no 'since'", remedy="'revisions' does.")
    day = since
    if isinstance(since, str):
        try:
            day = dt.date.fromisoformat(since.strip())  # not of a text that also has a time
        except ValueError:
            day = None
    if isinstance(day, dt.date) and not isinstance(day, dt.datetime):
        return dt.datetime.combine(day, dt.time.min, NEW_YORK)
    return _moment("since", since, "a day (2026-09-30), or ")


def _moment(name: str, moment: SinceLike, or_a_day: str = "") -> dt.datetime | None:
    written = moment
    if isinstance(moment, str):
        try:
            moment = dt.datetime.fromisoformat(moment.strip())
        except ValueError:
            moment = None
    elif moment is None:
        return None
    if not isinstance(moment, dt.datetime) or moment.tzinfo is None:
        raise InvalidQuery(
            f"{name}={written!s} is not {or_a_day}a moment with a time zone",
            remedy="Write a moment as in 2026-09-30T18:00:00-04:00.",
        )
    return moment
