"""The registry of tables: everything about each week-keyed table of the schema ``otc``, declared once.

Assets, lineage, loading, reading, hypertables, events and the data dictionary derive from it. To add a figure, write a
formula with its test, add an entry here, and write the migration that creates its table. What an entry says is in
``table``, which columns there are in ``schema``, what they mean in ``notes``, and checks in ``checks``.
"""

from __future__ import annotations

from otc_assets.domain.changes import week_changes
from otc_assets.domain.concentration import (
    RANKED_FROM_SHARES,
    RANKED_FROM_TRADES,
    market_concentration,
    symbol_concentration,
)
from otc_assets.domain.dataset_gaps import DATASET_GAP, GAP_NOTES
from otc_assets.domain.datasets import DATASETS
from otc_assets.domain.enums import Retention
from otc_assets.domain.estimates import ESTIMATES
from otc_assets.domain.firms import ROLES_VERSION, role_share
from otc_assets.domain.notes import Note
from otc_assets.domain.rolling import symbol_rolling, venue_rolling
from otc_assets.domain.schema import (
    GAP,
    MARKET_CONCENTRATION,
    PUBLISHED_TOTAL,
    ROLE_SHARE,
    SYMBOL,
    SYMBOL_CONCENTRATION,
    SYMBOL_ROLLING,
    SYMBOL_SUMMARY,
    VENUE,
    VENUE_ROLLING,
    VENUE_SHARE,
    VENUE_SUCCESSION,
    VENUE_VOLUME,
    WEEK_CALENDAR,
    WEEK_CHANGES,
)
from otc_assets.domain.summaries import symbol_summary, venue_share
from otc_assets.domain.symbols import symbol
from otc_assets.domain.table import Figure, Layout, Table
from otc_assets.domain.venues import SUCCESSIONS_VERSION, venue, venue_succession
from otc_assets.domain.weeks import WINDOW_WEEKS

_SUMMARY, _METRICS = "otc.summary.computed", "otc.metrics.computed"
_VOLUME_COLUMNS = ("week_ending", "tier", "venue_kind", "venue_id", "share_volume")

_OF_SCOPE = {
    "total_volume": Note("share volume at the venues of venue_scope; ALL contains ATS and NON_ATS", "shares"),
    "total_trades": Note("number of trades at the venues of venue_scope; ALL contains ATS and NON_ATS", "trades"),
}

# The layouts are measured by ``benchmarks/layout.py``; the figures are in docs/benchmarks.md. What is mostly read by
# week has a segment for each week: no other week is decompressed for it. The symbol comes first in the order, so it is
# in one or two batches. Chunks are few, because each adds planning time to every query over years.


def _of_weeks(key: str) -> Layout:
    """For some ten thousand rows per week, read by week: a quarter per chunk, with one segment per week and tier."""
    return Layout(91, "week_ending, tier", key)


def _of_symbols(key: str) -> Layout:
    """For figures of symbols, read over years: a quarter per chunk, with a symbol's thirteen weeks in one batch."""
    return Layout(91, "tier", f"{key}, week_ending")


def _of_venues(key: str) -> Layout:
    """For at most some hundred rows per week: segments of a week would be too short, and queries are by venue."""
    return Layout(364, "tier", f"{key}, week_ending")


def _revisions(key: str) -> Layout:
    """For a few rows per week."""
    return Layout(364, "week_ending", f"tier, {key}, known_to")


#: What users read of both six-week figures.
_PER_TRADING_DAY = (
    "\n\n`trend` and `volume_vs_avg_pct` are per trading day, so that a week with a holiday compares with full weeks. "
    "A half-day of the NYSE (early close) counts as one trading day, as it does in `week_calendar`. Such a day has "
    "3.5 of 6.5 hours: where volume follows the hours, a week with one half-day is up to 12 % lower per trading day. "
    "`notional_trend` compares dollars, which a split does not change. Both trends are null where fewer than three "
    "weeks are captured, or where weeks can't be compared; `trend_reason` has the reason. The percentages are not: an "
    "average includes the week itself, so that they are 0 where no earlier week is captured. Rows that were computed "
    "before the columns per trading day existed have `trading_days` null, and their `trend` and `volume_vs_avg_pct` "
    "compare whole weeks; materialize their weeks to replace them."
)

_ALL_TABLES = (
    Table(
        name="week_calendar",
        description="The week in the NYSE's calendar: its trading days, and when FINRA publishes each tier.",
        schema=WEEK_CALENDAR,
        key=("week_ending", "tier"),
    ),
    Table(
        name="venue_volume",
        description=(
            "Shares and trades of each symbol at each venue: ATSs by MPID, other firms by CRD, small firms as a group."
            "\n\nComputed from the published tiers, and recomputed when another tier is published or one is revised. "
            "Replaced rows are kept in `otc.venue_volume_revision`."
        ),
        schema=VENUE_VOLUME,
        key=("week_ending", "tier", "symbol", "issue_name", "product_type", "venue_id"),
        volume="share_volume",
        # Longer chunks would keep more weeks uncompressed: a chunk is compressed once its newest week is old enough.
        layout=Layout(28, "week_ending, tier", "symbol, venue_id"),
        revisions=_revisions("symbol, venue_id"),
        retention=Retention.VENUE_VOLUME,
    ),
    Table(
        name="published_total",
        description="FINRA's own totals by symbol, by venue and of the market: used to reconcile our sums.",
        schema=PUBLISHED_TOTAL,
        key=("week_ending", "tier", "total_of", "venue_kind", "symbol", "issue_name", "product_type", "venue_id"),
        notes={
            "venue_kind": Note("ATS or NON_ATS (De Minimis included)"),
            "symbol": Note("ticker; '' unless total_of is SYMBOL"),
            "venue_id": Note("the venue, as in venue_volume; '' unless total_of is VENUE"),
        },
        layout=_of_weeks("total_of, symbol, venue_id"),
        retention=Retention.VENUE_VOLUME,
    ),
    Figure(
        name="symbol_summary",
        description="A symbol's week: volume, trades, venues, average trade size, and the venue with the most volume.",
        schema=SYMBOL_SUMMARY,
        key=("week_ending", "tier", "symbol"),
        notes={"issue_name": Note("the issue with the most volume, where a ticker has several")},
        volume="total_volume",
        layout=_of_symbols("symbol"),
        revisions=_revisions("symbol"),
        formula=symbol_summary,
        reads=(*_VOLUME_COLUMNS, "symbol", "issue_name", "trade_count", "notional"),
        event=_SUMMARY,
        code_version="2",
    ),
    Figure(
        name="venue_share",
        description=(
            "A venue's week in a tier: volume, trades, symbols, market share and rank, among all venues and in its "
            "kind."
        ),
        schema=VENUE_SHARE,
        key=("week_ending", "tier", "venue_id"),
        volume="total_volume",
        layout=_of_venues("venue_id"),
        revisions=_revisions("venue_id"),
        formula=venue_share,
        reads=(*_VOLUME_COLUMNS, "symbol", "venue_name", "trade_count", "notional"),
        event=_SUMMARY,
        code_version="2",
    ),
    Figure(
        name="symbol",
        description=(
            "A symbol's issue name, tier and product type in the week, and what has changed since it last traded: a "
            "move between tiers, another issue name, another ticker.\n\nFINRA gives no identifier of a security. "
            "Issuers are distinguished by the words of issue names; a new name without any old word looks like another "
            "issuer. `otc.symbol_history` has the weeks in which each name and tier was used."
        ),
        schema=SYMBOL,
        key=("week_ending", "tier", "symbol"),
        notes={"issue_name": Note("the issue with the most volume, where a ticker has several")},
        layout=_of_symbols("symbol"),
        revisions=_revisions("symbol"),
        sources=("symbol_summary", "venue_volume"),
        weeks=WINDOW_WEEKS,
        formula=symbol,
        event=_METRICS,
        code_version="3",
    ),
    Figure(
        name="venue",
        description=(
            "A venue's name, kind and identity in the week, and its name and venue_id when it last traded.\n\n"
            "`identity_id` follows confirmed successions. `otc.venue_history` has the weeks in which each MPID, CRD "
            "number and name was used."
        ),
        schema=VENUE,
        key=("week_ending", "venue_id"),
        layout=Layout(364, "identity_id", "venue_id, week_ending"),
        revisions=Layout(364, "week_ending", "venue_id, known_to"),
        sources=("venue_share",),
        weeks=WINDOW_WEEKS,
        formula=venue,
        event=_METRICS,
        code_version=f"2.{SUCCESSIONS_VERSION}",
    ),
    Figure(
        name="venue_succession",
        description=(
            "A venue that ended when another began with most of its symbols and volume: a proposal with its evidence, "
            "or the decision of the reviewed file.\n\nFigures follow a succession only once it is confirmed."
        ),
        schema=VENUE_SUCCESSION,
        key=("week_ending", "predecessor", "successor"),
        revisions=Layout(364, "week_ending", "predecessor, successor, known_to"),
        sources=("venue_share", "venue_volume"),
        weeks=WINDOW_WEEKS,
        formula=venue_succession,
        event=_METRICS,
        code_version=f"1.{SUCCESSIONS_VERSION}",
    ),
    Figure(
        name="role_share",
        description=(
            "The share of wholesalers, bank desks and other roles in a tier's week, among ATSs and among other firms."
            "\n\nFINRA's rows have no roles. They are those of `otc.firm`, a reviewed list that names its documents. A "
            "firm that is not in it is unattributed, so the share of a named role is a lower bound. A change of the "
            "list makes all weeks stale."
        ),
        schema=ROLE_SHARE,
        key=("week_ending", "tier", "venue_scope", "role"),
        notes={
            "venue_scope": Note("venues counted: ATS or NON_ATS (De Minimis included)"),
            "kind_share_pct": Note("share of the volume of all venues of the venue_scope", "percent"),
            "kind_rank": Note("rank by volume among the roles of the venue_scope; ties by role"),
            "kind_notional_share_pct": Note(
                "share of the value of all venues of the venue_scope; null where notional_share_pct is null", "percent"
            ),
            "kind_notional_rank": Note(
                "rank by value among the roles of the venue_scope; null where notional_share_pct is null"
            ),
        },
        volume="total_volume",
        revisions=_revisions("venue_scope, role"),
        sources=("venue_share",),
        formula=role_share,
        reads=(
            *("week_ending", "tier", "venue_kind", "venue_id", "venue_name"),
            *("total_volume", "total_trades", "total_notional"),
        ),
        event=_SUMMARY,
        code_version=f"1.{ROLES_VERSION}",
    ),
    Figure(
        name="symbol_rolling",
        description=(
            "A symbol's six-week averages, and its week compared with them, per trading day and per week; in its tier, "
            "and over all tiers (`tier` ALL). Weeks without trades count as zero, and their number is stated."
            + _PER_TRADING_DAY
            + "\n\nALL is computed once all three tiers of the week are captured. Use it where a symbol has moved "
            "between tiers: the row of the tier has `weeks_in_other_tier` and no trend. A jump of the price near a "
            "split ratio is in `split_week` and `split_ratio`; nothing is adjusted for it."
        ),
        schema=SYMBOL_ROLLING,
        key=("week_ending", "tier", "symbol"),
        notes={
            "tier": Note("FINRA's tier, or ALL: all tiers together, once all three of the week are captured"),
            "avg_6w_venue_count": Note(
                "per week: average number of venues; null for ALL where the symbol traded in two tiers in one week",
                "venues per week",
            ),
        },
        volume="current_volume",
        layout=_of_symbols("symbol"),
        revisions=_revisions("symbol"),
        sources=("symbol_summary",),
        weeks=WINDOW_WEEKS,
        formula=symbol_rolling,
        event=_METRICS,
        code_version="3",
    ),
    Figure(
        name="venue_rolling",
        description=(
            "A venue's six-week averages in a tier, and its week compared with them, per trading day and per week. "
            "Weeks under an earlier MPID count where the succession is confirmed (`predecessors`)." + _PER_TRADING_DAY
        ),
        schema=VENUE_ROLLING,
        key=("week_ending", "tier", "venue_id"),
        volume="current_volume",
        layout=_of_venues("venue_id"),
        revisions=_revisions("venue_id"),
        sources=("venue_share",),
        weeks=WINDOW_WEEKS,
        formula=venue_rolling,
        event=_METRICS,
        code_version=f"3.{SUCCESSIONS_VERSION}",
    ),
    Figure(
        name="symbol_concentration",
        description=(
            "The concentration of a symbol's trading: HHI, top shares, effective venues; ATS, non-ATS, and both. Rank "
            f"only symbols with at least {RANKED_FROM_SHARES:,} shares and {RANKED_FROM_TRADES:,} trades by HHI: a "
            "symbol that traded once, at one venue, has 10,000."
        ),
        schema=SYMBOL_CONCENTRATION,
        key=("week_ending", "tier", "symbol", "venue_scope"),
        notes=_OF_SCOPE,
        volume="total_volume",
        layout=_of_symbols("symbol, venue_scope"),
        revisions=_revisions("symbol, venue_scope"),
        formula=symbol_concentration,
        reads=(*_VOLUME_COLUMNS, "symbol", "trade_count", "notional"),
        event=_METRICS,
        code_version="3",
    ),
    Figure(
        name="market_concentration",
        description="The concentration of the market, by tier and for all tiers: HHI, top shares, effective venues.",
        schema=MARKET_CONCENTRATION,
        key=("week_ending", "tier", "venue_scope"),
        notes={
            **_OF_SCOPE,
            "tier": Note("FINRA's tier, or ALL once all three tiers of the week are loaded"),
            "hhi": Note(
                "Herfindahl-Hirschman index, 0 to 10,000, with the De Minimis group as one firm; the true index is "
                "higher only if firms that are named for some symbols are in the group of others"
            ),
            "effective_venues": Note("10,000 / hhi", "venues"),
        },
        volume="total_volume",
        layout=_of_venues("venue_scope"),
        revisions=_revisions("venue_scope"),
        formula=market_concentration,
        reads=(*_VOLUME_COLUMNS, "trade_count", "notional"),
        by_tier=False,
        event=_METRICS,
        code_version="3",
    ),
    Figure(
        name="week_changes",
        description=(
            "What changed in the week, one row per change with its evidence and its rank: symbols and venues that "
            "entered, ended, moved or were renamed, changes of rank, the largest movers compared with their own "
            "median, changes of market share (within symbols, and by the mix of symbols), splits, and what FINRA "
            "revised since the report before.\n\nA tier is compared with its own newest captured week before. The "
            "week's T1 is published two weeks before its other tiers, whose changes follow then; "
            "`otc.newest_week_changes` has the newest of each tier."
        ),
        schema=WEEK_CHANGES,
        key=("week_ending", "tier", "kind", "subject"),
        notes={
            "tier": Note("FINRA's tier, or ALL: changes of venues over all captured tiers"),
            "rank": Note("rank by the size of amount among the changes of its kind and tier; 1 is largest"),
            "symbol": Note("the symbol that has changed; null for changes of venues and tiers"),
            "venue_id": Note("the venue that has changed; null for changes of symbols and tiers"),
        },
        layout=_of_weeks("kind, subject"),
        revisions=Layout(364, "week_ending", "tier, kind, subject, known_to"),
        sources=("symbol", "venue", "venue_succession", "symbol_summary", "venue_share", "venue_volume"),
        weeks=WINDOW_WEEKS,
        formula=week_changes,
        follows_revisions=True,
        event=_METRICS,
        code_version=f"3.{SUCCESSIONS_VERSION}",
    ),
    Table(
        name="gap",
        description=(
            "Expected publications that are not captured completely: missing, late, incomplete, empty, or pending."
            "\n\nPublications are expected by the publication calendar, tier by tier, from the tier's first captured "
            "week on: earlier ones were never requested. `fetchable` says whether FINRA still offers the week."
        ),
        schema=GAP,
        key=("week_ending", "tier"),
    ),
    *(
        Table(
            name=dataset.table,
            description=dataset.description,
            schema=dataset.schema,
            key=("week_ending", dataset.period, *dataset.key),
            notes=dataset.notes,
            volume=dataset.volume,
            layout=Layout(28, f"week_ending, {dataset.period}", ", ".join(dataset.key)),
            revisions=Layout(364, "week_ending", f"{dataset.period}, {', '.join(dataset.key)}, known_to"),
            retention=dataset.retention,
        )
        for dataset in DATASETS
    ),
    *(
        Table(
            name=estimate.name,
            description=estimate.description,
            schema=estimate.schema,
            key=estimate.key,
            notes=estimate.notes,
            volume=estimate.volume,
            layout=Layout(91, "week_ending", ", ".join(estimate.key[1:])),
            revisions=Layout(364, "week_ending", f"{', '.join(estimate.key[1:])}, known_to"),
            retention=Retention.SUMMARIES,
        )
        for estimate in ESTIMATES
    ),
    Table(
        name="dataset_gap",
        description="Periods of FINRA's other data sets that are expected and not captured: missing, late, or pending.",
        schema=DATASET_GAP,
        key=("week_ending", "dataset", "period"),
        notes=GAP_NOTES,
    ),
)

#: Every table that is keyed by week, by name. The functions below read it when they are called.
TABLES: dict[str, Table] = {table.name: table for table in _ALL_TABLES}


def figures() -> list[Figure]:
    """The tables that are computed by a formula."""
    return [table for table in TABLES.values() if isinstance(table, Figure)]


def weekly_figures() -> list[str]:
    """The names of figures of one week."""
    return [figure.name for figure in figures() if figure.weeks == 1]


def rolling_figures() -> list[str]:
    """The names of figures over several weeks."""
    return [figure.name for figure in figures() if figure.weeks > 1]


def in_order() -> list[str]:
    """Venue volume and the names of all figures, in the order in which they are computed and reported."""
    return ["venue_volume", *weekly_figures(), *rolling_figures()]


def with_history() -> list[str]:
    """The names of the tables that keep replaced rows."""
    return [table.name for table in TABLES.values() if table.revisions]


def hypertables() -> dict[str, Layout]:
    """The layout of every hypertable, by name, ``<name>_revision`` tables included."""
    layouts: dict[str, Layout] = {}
    for table in TABLES.values():
        if table.layout:
            layouts[table.name] = table.layout
        if table.revisions:
            layouts[f"{table.name}_revision"] = table.revisions
    return layouts
