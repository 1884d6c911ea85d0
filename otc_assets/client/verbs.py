"""What can be read, declared once: each verb with its columns, filters, order and defaults.

The Python client, ``otc-assets query`` and the HTTP API have the same verbs. A verb reads one table of the registry
(``domain.tables``), whose columns, key and history it has, or one statement in ``client/sql``. How a selection becomes
SQL is in ``selection``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files

import polars as pl

from otc_assets.domain.datasets import DATASETS
from otc_assets.domain.enums import Change, Retention, VenueKind, VenueScope
from otc_assets.domain.notes import Note
from otc_assets.domain.schema import AMOUNT, RATIO
from otc_assets.domain.table import Figure, Table
from otc_assets.domain.tables import TABLES
from otc_assets.domain.weeks import TIERS

#: The value of `tier` in rows over all tiers.
ALL_TIERS = "ALL"
#: The tables that have such rows beside those of the tiers, so that a sum over both counts everything twice.
HAVE_ALL_TIERS = frozenset({"symbol_rolling", "market_concentration"})

MOMENT = pl.Datetime("us", "UTC")

#: What the parameter ``since`` of ``revisions`` means.
SINCE_TEXT = (
    "A day, 2026-09-30, which begins at midnight in New York, or a moment with a time zone: only what was replaced "
    "from then on."
)


@dataclass(frozen=True)
class Filter:
    """A parameter that selects rows by the values of a column.

    Attributes:
        name: of the parameter, in Python, HTTP and, with dashes, on the command line.
        columns: the column that it filters: the first of these that the verb has.
        description: what a value is.
        choices: the only values there are; empty for any.
    """

    name: str
    columns: tuple[str, ...]
    description: str
    choices: tuple[str, ...] = ()


FILTERS = {
    each.name: each
    for each in (
        Filter("symbols", ("symbol",), "tickers, case-sensitive, for example AAPL"),
        Filter("venues", ("venue_id", "venue", "mpid"), "venue_id: the MPID of an ATS, the CRD number of another firm"),
        Filter("tiers", ("tier",), "T1, T2 or OTCE, or FINRA's names of the tiers; ALL for rows over all tiers"),
        Filter("venue_kinds", ("venue_kind",), "kinds of venues", tuple(VenueKind)),
        Filter("scopes", ("venue_scope",), "the venues that a figure is computed over", tuple(VenueScope)),
        Filter("kinds", ("kind",), "kinds of changes", tuple(Change)),
    )
}


@dataclass(frozen=True, kw_only=True)
class Verb:
    """Something that can be read by weeks and filters.

    Attributes:
        name: in Python, HTTP and on the command line.
        table: the columns, their notes, the key, and the retention class. The key orders the rows and pages them.
        order: the columns by which rows are ordered; every key column is among them.
        defaults: the values of filters that the caller does not give.
        statement: the file in ``client/sql`` whose rows are read; empty: those of the table itself.
    """

    name: str
    table: Table
    order: tuple[str, ...]
    defaults: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    statement: str = ""

    @property
    def filters(self) -> dict[str, str]:
        """The column of each filter that the verb takes, by the filter's name."""
        return {
            name: column
            for name, each in FILTERS.items()
            if (column := next((c for c in each.columns if c in self.table.schema), None))
        }

    @property
    def has_history(self) -> bool:
        """Whether its rows can be read as they were known at a moment."""
        return self.table.revisions is not None

    @property
    def loads(self) -> str:
        """The name under which loads of its weeks are recorded: of the table, or of FINRA's data set."""
        return next((each.name for each in DATASETS if each.table == self.table.name), self.table.name)

    @property
    def is_of_publications(self) -> bool:
        """Whether each published week and tier has rows, so that there is a reason if one has none."""
        return isinstance(self.table, Figure) or self.name in ("venue_volume", "published_total", "coverage", "weeks")

    @property
    def description(self) -> str:
        """Its content, in one paragraph."""
        return self.table.description.partition("\n\n")[0]


@cache
def sql_text(name: str) -> str:
    """The text of a file in ``client/sql``."""
    return (files(__package__) / "sql" / f"{name}.sql").read_text()


#: The short names of tables that are read most; any other table of the registry is a verb under its own name.
_SHORT = {
    "symbol_summary": "summary",
    "symbol_rolling": "rolling",
    "symbol_concentration": "concentration",
    "venue_share": "shares",
    "week_changes": "changes",
    "gap": "gaps",
    "venue": "venues",
    "symbol": "symbols",
}
_ORDERS = {"week_changes": ("week_ending", "tier", "kind", "rank", "subject")}
_TIER_NAMES = tuple(tier.name for tier in TIERS)

_REVISIONS = Table(
    name="revisions",
    description="Rows of venue volume that a revision of FINRA's changed, removed or added, beside the rows of today.",
    schema=pl.Schema(
        {
            "week_ending": pl.Date(),
            "tier": pl.String(),
            "symbol": pl.String(),
            "issue_name": pl.String(),
            "product_type": pl.String(),
            "venue_kind": pl.String(),
            "venue_id": pl.String(),
            "venue_name": pl.String(),
            "known_from": MOMENT,
            "known_to": MOMENT,
            "change": pl.String(),
            "share_volume": AMOUNT,
            "trade_count": pl.Int64(),
            "share_volume_now": AMOUNT,
            "trade_count_now": pl.Int64(),
            "share_volume_change_pct": RATIO,
        }
    ),
    key=("week_ending", "tier", "symbol", "issue_name", "product_type", "venue_id", "known_to"),
    notes={
        "known_from": Note("when the row before the revision was loaded; null if there was none"),
        "known_to": Note("when the revision came"),
        "change": Note("changed, removed or added"),
        "share_volume": Note("share volume before the revision; null if there was no such row", "shares"),
        "trade_count": Note("number of trades before the revision; null if there was no such row", "trades"),
        "share_volume_now": Note("share volume of today's row; null where there is none", "shares"),
        "trade_count_now": Note("number of trades of today's row; null where there is none", "trades"),
        "share_volume_change_pct": Note("today's share volume against the one before the revision", "percent"),
    },
)
_COVERAGE = Table(
    name="coverage",
    description="What is loaded of each week and tier: rows, shares, grade, revisions, and the gap if there is one.",
    schema=pl.Schema(
        {
            "week_ending": pl.Date(),
            "tier": pl.String(),
            "state": pl.String(),
            "rows": pl.Int64(),
            "shares": AMOUNT,
            "grade": pl.String(),
            "score": pl.Int64(),
            "revisions": pl.Int64(),
            "captured_at": MOMENT,
            "gap": pl.String(),
            "due": pl.Date(),
            "detail": pl.String(),
        }
    ),
    key=("week_ending", "tier"),
    notes={
        "state": Note("processing state of the week and tier; null if nothing of it was captured"),
        "rows": Note("rows in venue_volume", "rows"),
        "shares": Note("their share volume", "shares"),
        "grade": Note("A to F; F blocks downstream figures; null if it was not graded"),
        "score": Note("0 to 100", "points"),
        "revisions": Note("how often the rows have changed"),
        "captured_at": Note("when it was last captured"),
        "gap": Note("the kind of the gap; null if the publication is captured completely"),
        "due": Note("the publication day of the gap"),
        "detail": Note("the gap in words"),
    },
    retention=Retention.VENUE_VOLUME,
)

_WEEKS = Table(
    name="weeks",
    description="The captured weeks, one row per week: its tiers, rows, shares, worst grade and revisions.",
    schema=pl.Schema(
        {
            "week_ending": pl.Date(),
            "tiers": pl.String(),
            "rows": pl.Int64(),
            "shares": AMOUNT,
            "worst_grade": pl.String(),
            "revisions": pl.Int64(),
            "captured_at": MOMENT,
        }
    ),
    key=("week_ending",),
    notes={
        "tiers": Note("FINRA's tiers that are captured, separated by commas"),
        "rows": Note("rows in venue_volume", "rows"),
        "shares": Note("their share volume", "shares"),
        "worst_grade": Note("the worst grade of its tiers, A to F; null if none was graded"),
        "revisions": Note("how often the rows have changed"),
        "captured_at": Note("when a tier of it was last captured"),
    },
    retention=Retention.VENUE_VOLUME,
)


def _of_table(table: Table) -> Verb:
    defaults: dict[str, tuple[str, ...]] = {}
    if table.name in HAVE_ALL_TIERS:
        defaults["tiers"] = _TIER_NAMES
    if "venue_scope" in table.schema and table.name.endswith("_concentration"):
        defaults["scopes"] = (VenueScope.ALL,)  # it contains the other two
    return Verb(
        name=_SHORT.get(table.name, table.name),
        table=table,
        order=_ORDERS.get(table.name, table.key),
        defaults=defaults,
    )


_MOST_READ = ("venue_volume", *_SHORT, "venue_rolling", "market_concentration")

#: Every verb, by name; those that are read most come first.
VERBS: dict[str, Verb] = {
    verb.name: verb
    for verb in (
        *(_of_table(TABLES[name]) for name in _MOST_READ),
        *(Verb(name=t.name, table=t, order=t.key, statement=t.name) for t in (_REVISIONS, _COVERAGE, _WEEKS)),
        *(_of_table(t) for t in TABLES.values() if t.name not in _MOST_READ),
    )
}
#: By name of a table, that of its verb, where it has a shorter one.
BY_TABLE = dict(_SHORT)
#: The names of the verbs that have a method of the client; the others are read by ``Client.read``.
COMMON = frozenset({*(_SHORT.get(name, name) for name in _MOST_READ), _REVISIONS.name, _COVERAGE.name})
