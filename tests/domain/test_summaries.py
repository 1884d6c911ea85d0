"""Symbols' and venues' weeks: by hand, and by DuckDB on drawn rows."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal

import polars as pl
from hypothesis import given, settings
from weekly_rows import WEEK, millionths, rounded_sql, sql, volume, volume_row, volumes

from otc_assets.domain.schema import DE_MINIMIS_VENUE_ID, SYMBOL_SUMMARY, VENUE_SHARE, VENUE_VOLUME
from otc_assets.domain.summaries import symbol_summary, venue_share

ONE_SYMBOL = volume(
    [
        ("AAPL", "UBSA", "600", 5),
        ("AAPL", "INCR", "300.5", 3),
        ("AAPL", "149777", "99.25", 1),
        ("AAPL", DE_MINIMIS_VENUE_ID, "0.25", 1),
    ]
)


def test_a_symbols_week_adds_up_its_venues() -> None:
    """By hand: 600 + 300.5 + 99.25 + 0.25 = 1,000 shares in 10 trades; 600 of 1,000 is 60 %."""
    (row,) = symbol_summary(ONE_SYMBOL).to_dicts()
    assert row == {
        "week_ending": WEEK,
        "tier": "NMS Tier 1",
        "symbol": "AAPL",
        "issue_name": "AAPL Inc.",
        "issue_count": 1,
        "total_volume": Decimal(1000),
        "ats_volume": Decimal("900.5"),
        "non_ats_volume": Decimal("99.5"),
        "of_which_de_minimis_volume": Decimal("0.25"),
        "total_trades": 10,
        "total_notional": None,
        "venue_count": 4,
        "avg_trade_size": Decimal(100),
        "top_venue": "UBSA",
        "top_venue_share_pct": Decimal(60),
        "implied_price": None,
        "notional_top_venue": None,
        "notional_top_venue_share_pct": None,
        "block_like_volume": Decimal(0),
        "block_like_share_pct": Decimal(0),
        "block_undecided_volume": Decimal(1000),
    }


def test_symbols_that_differ_only_in_case_stay_two() -> None:
    """Upper-casing merges securities, and the damage can't be undone once FINRA's window has passed."""
    made = symbol_summary(volume([("ABRpD", "UBSA", "1", 1), ("ABRPD", "UBSA", "2", 1)]))
    assert made.select("symbol", "total_volume").rows() == [("ABRPD", Decimal(2)), ("ABRpD", Decimal(1))]


def test_a_ticker_of_two_issues_is_named_after_the_one_with_most_shares() -> None:
    """Guards against counting a venue twice, where two issues of one ticker trade at it."""
    rows = [
        volume_row("XYZ", "UBSA", 100, 1) | {"issue_name": "Old Corp."},
        volume_row("XYZ", "UBSA", 250, 1) | {"issue_name": "New Corp."},
        volume_row("XYZ", "INCR", 300, 1) | {"issue_name": "Old Corp."},
    ]
    (row,) = symbol_summary(pl.DataFrame(rows, schema=VENUE_VOLUME)).to_dicts()
    assert (row["issue_name"], row["issue_count"]) == ("Old Corp.", 2)  # 400 against 250
    assert (row["venue_count"], row["top_venue"]) == (2, "UBSA")  # 350 against 300


def test_of_venues_with_equal_shares_the_first_by_id_is_the_top() -> None:
    """Guards against a top venue that changes from run to run."""
    (row,) = symbol_summary(volume([("A", "UBSA", "5", 1), ("A", "INCR", "5", 1)])).to_dicts()
    assert (row["top_venue"], row["top_venue_share_pct"]) == ("INCR", Decimal(50))


def test_dollars_are_added_up_only_where_every_row_has_them() -> None:
    """A total of what only some rows state would be no total."""
    rows = [
        volume_row("ALL", "UBSA", 1, 1) | {"notional": Decimal("10.25")},
        volume_row("ALL", "INCR", 1, 1) | {"notional": Decimal("0.000001")},
        volume_row("SOME", "UBSA", 1, 1) | {"notional": Decimal(7)},
        volume_row("SOME", "INCR", 1, 1),
    ]
    made = symbol_summary(pl.DataFrame(rows, schema=VENUE_VOLUME))
    assert made["total_notional"].to_list() == [Decimal("10.250001"), None]


def test_a_share_is_rounded_half_up_to_six_places() -> None:
    """By hand: 1 of 3 is 33.333333, 2 of 3 is 66.666667; 3 shares in 7 trades are 0.428571 (0.4285714...)."""
    made = venue_share(volume([("A", "UBSA", "2", 6), ("A", "INCR", "1", 1)]))
    assert made.select("venue_id", "market_share_pct").rows() == [
        ("INCR", Decimal("33.333333")),
        ("UBSA", Decimal("66.666667")),
    ]
    assert symbol_summary(volume([("A", "UBSA", "3", 7)]))["avg_trade_size"].to_list() == [Decimal("0.428571")]


def test_nothing_traded_has_no_shares_and_no_trade_size() -> None:
    """Guards against NaN and division by zero: FINRA has rows of zero shares."""
    idle = volume([("A", "UBSA", "0", 0), ("A", "INCR", "0", 0)])
    (row,) = symbol_summary(idle).to_dicts()
    assert (row["total_volume"], row["avg_trade_size"], row["top_venue_share_pct"]) == (Decimal(0), None, None)
    assert venue_share(idle).select("market_share_pct", "kind_share_pct", "rank").rows() == [
        (None, None, 1),
        (None, None, 2),
    ]


def test_a_venues_week_has_its_share_and_rank_among_all_and_among_its_kind() -> None:
    """By hand: of 1,000 shares 900.5 were on ATSs, 99.5 elsewhere; De Minimis firms rank with the non-ATS ones."""
    made = venue_share(ONE_SYMBOL).select("venue_id", "market_share_pct", "rank", "kind_share_pct", "kind_rank")
    assert made.rows() == [
        ("149777", Decimal("9.925"), 3, Decimal("99.748744"), 1),  # 99.25 / 99.5
        (DE_MINIMIS_VENUE_ID, Decimal("0.025"), 4, Decimal("0.251256"), 2),
        ("INCR", Decimal("30.05"), 2, Decimal("33.370350"), 2),  # 300.5 / 900.5
        ("UBSA", Decimal(60), 1, Decimal("66.629650"), 1),
    ]


def test_tiers_and_weeks_do_not_mix() -> None:
    """Shares over whatever happens to be out would not compare from week to week."""
    later = WEEK + dt.timedelta(weeks=1)
    rows = pl.concat(
        [
            volume([("A", "UBSA", "1", 1)]),
            volume([("A", "UBSA", "2", 1), ("A", "INCR", "2", 1)], tier="OTC"),
            volume([("A", "UBSA", "3", 1)], week=later),
        ]
    )
    made = venue_share(rows).select("week_ending", "tier", "venue_id", "market_share_pct").rows()
    assert made == [
        (WEEK, "NMS Tier 1", "UBSA", Decimal(100)),
        (WEEK, "OTC", "INCR", Decimal(50)),
        (WEEK, "OTC", "UBSA", Decimal(50)),
        (later, "NMS Tier 1", "UBSA", Decimal(100)),
    ]


def test_frames_have_the_columns_of_their_tables_also_without_rows() -> None:
    """Guards the loads: columns are copied by position."""
    for rows in (ONE_SYMBOL, VENUE_VOLUME.to_frame()):
        assert symbol_summary(rows).schema == SYMBOL_SUMMARY
        assert venue_share(rows).schema == VENUE_SHARE


def priced(*rows: tuple[str, str, str, int, str | None]) -> pl.DataFrame:
    """VENUE_VOLUME of (symbol, venue, shares, trades, dollars)."""
    return pl.DataFrame(
        [volume_row(*row) | {"notional": None if value is None else Decimal(value)} for *row, value in rows],  # type: ignore[arg-type]
        schema=VENUE_VOLUME,
    )


def test_a_venues_rank_by_value_differs_from_its_rank_by_shares() -> None:
    """By hand: 900 shares at 1 dollar are 900 of 5,000 dollars (18 %), 100 at 41 are 4,100 (82 %). Of the firms' half,
    900 of 900.
    """
    made = venue_share(priced(("LOW", "7897", "900", 9, "900"), ("HIGH", "UBSA", "100", 1, "4100")))
    columns = ["venue_id", "rank", "notional_rank", "notional_share_pct", "kind_notional_share_pct"]
    assert made.select(columns).rows() == [
        ("7897", 1, 2, Decimal(18), Decimal(100)),
        ("UBSA", 2, 1, Decimal(82), Decimal(100)),
    ]


def test_a_row_without_a_value_leaves_its_tier_without_shares_of_value() -> None:
    """Shares of an incomplete total would be too high. Totals of complete venues stay."""
    rows = priced(("A", "UBSA", "10", 1, "100"), ("A", "INCR", "10", 1, None))
    other = pl.DataFrame([volume_row("B", "UBSA", 1, 1, tier="OTC") | {"notional": Decimal(5)}], schema=VENUE_VOLUME)
    columns = ["tier", "venue_id", "total_notional", "notional_share_pct", "notional_rank", "kind_notional_rank"]
    assert venue_share(pl.concat([rows, other])).select(columns).rows() == [
        ("NMS Tier 1", "INCR", None, None, None, None),
        ("NMS Tier 1", "UBSA", Decimal(100), None, None, None),
        ("OTC", "UBSA", Decimal(5), Decimal(100), 1, 1),
    ]


def test_the_implied_price_is_dollars_per_share() -> None:
    """By hand: 100.5 dollars for 3 shares are 33.5; nothing traded has no price, though there is a value of 0."""
    rows = priced(("A", "UBSA", "2", 1, "67"), ("A", "INCR", "1", 1, "33.5"), ("IDLE", "UBSA", "0", 0, "0"))
    columns = ["symbol", "implied_price", "notional_top_venue", "notional_top_venue_share_pct"]
    assert symbol_summary(rows).select(columns).rows() == [
        ("A", Decimal("33.5"), "UBSA", Decimal("66.666667")),
        ("IDLE", None, "UBSA", None),
    ]


def test_an_average_trade_of_10000_shares_or_200000_dollars_is_of_block_size() -> None:
    """SEC Rule 600(b): "at least", so both limits themselves count. By hand, 100,000 shares in 10 trades are 10,000 per
    trade; 200,000 dollars in one trade are 200,000.
    """
    rows = priced(
        ("A", "UBSA", "100000", 10, "100000"),  # 10,000 shares per trade
        ("A", "INCR", "99999.999999", 10, "1999999.999999"),  # a millionth short of both
        ("A", "JPMX", "1000", 1, "200000"),
        ("A", "7897", "5000", 0, "900000"),  # no trades, no average
    )
    (symbol,) = symbol_summary(rows).to_dicts()
    assert (symbol["block_like_volume"], symbol["block_undecided_volume"]) == (Decimal(101_000), Decimal(0))
    assert symbol["block_like_share_pct"] == Decimal("49.029126")  # 101,000 of 205,999.999999
    of_venues = venue_share(rows).select("venue_id", "block_like_share_pct").rows()
    assert of_venues == [
        ("7897", Decimal(0)),
        ("INCR", Decimal(0)),
        ("JPMX", Decimal(100)),
        ("UBSA", Decimal(100)),
    ]


def test_without_a_value_a_row_below_the_limit_in_shares_is_undecided() -> None:
    """Rows of website files have no value: 300 shares per trade may be 200,000 dollars, and may not."""
    rows = priced(("A", "UBSA", "20000", 1, None), ("A", "INCR", "300", 1, None), ("A", "JPMX", "500", 1, "1"))
    (made,) = symbol_summary(rows).select("block_like_volume", "block_undecided_volume", "total_volume").rows()
    assert made == (Decimal(20_000), Decimal(300), Decimal(20_800))


SHARES = "sum((v.share_volume * 1000000)::HUGEINT)"
DOLLARS = "sum((v.notional * 1000000)::HUGEINT)"
COMPLETE = "count(*) = count(v.notional)"
BLOCKS = """
    coalesce(sum((v.share_volume * 1000000)::HUGEINT) FILTER (trade_count > 0 AND (
        v.share_volume >= 10000 * trade_count OR v.notional >= 200000 * trade_count)), 0)
"""
UNDECIDED = """
    coalesce(sum((v.share_volume * 1000000)::HUGEINT) FILTER (
        trade_count > 0 AND v.share_volume < 10000 * trade_count AND v.notional IS NULL), 0)
"""


@settings(max_examples=25, deadline=None)
@given(rows=volumes(weeks=(WEEK, WEEK + dt.timedelta(weeks=1))))
def test_symbols_weeks_are_those_that_duckdb_computes(rows: pl.DataFrame) -> None:
    """An independent engine, on any rows."""
    expected = sql(
        f"""
        WITH top AS (
            SELECT week_ending, tier, symbol, venue_id, share_volume,
                row_number() OVER (
                    PARTITION BY week_ending, tier, symbol ORDER BY share_volume DESC, venue_id
                ) AS place
            FROM v
        )
        SELECT v.week_ending, v.tier, v.symbol, {SHARES}, coalesce({SHARES} FILTER (venue_kind = 'ATS'), 0),
            coalesce({SHARES} FILTER (venue_kind <> 'ATS'), 0),
            coalesce({SHARES} FILTER (venue_kind = 'DE_MINIMIS'), 0), sum(trade_count)::BIGINT,
            count(DISTINCT v.venue_id), {rounded_sql(SHARES, "sum(trade_count)::HUGEINT * 1000000")},
            any_value(top.venue_id),
            {rounded_sql("100 * any_value((top.share_volume * 1000000)::HUGEINT)", SHARES)},
            CASE WHEN {COMPLETE} THEN {DOLLARS} END,
            CASE WHEN {COMPLETE} THEN {rounded_sql(DOLLARS, SHARES)} END,
            CASE WHEN {COMPLETE} THEN arg_max(v.venue_id, (v.notional, -v.place_of_name)) END,
            CASE WHEN {COMPLETE} THEN {rounded_sql("100 * max((v.notional * 1000000)::HUGEINT)", DOLLARS)} END,
            {BLOCKS}, {rounded_sql(f"100 * {BLOCKS}", SHARES)}, {UNDECIDED}
        FROM (SELECT *, rank() OVER (ORDER BY venue_id) AS place_of_name FROM v) v
        JOIN top ON (v.week_ending, v.tier, v.symbol, 1) = (top.week_ending, top.tier, top.symbol, place)
        GROUP BY ALL ORDER BY v.week_ending, v.tier, v.symbol
        """,
        v=rows,
    )
    made = symbol_summary(rows)
    columns = [c for c in SYMBOL_SUMMARY if c not in ("issue_name", "issue_count", "total_notional")]
    columns.insert(columns.index("implied_price"), "total_notional")
    assert millionths(made, *columns) == expected


@settings(max_examples=25, deadline=None)
@given(rows=volumes())
def test_venues_weeks_are_those_that_duckdb_computes(rows: pl.DataFrame) -> None:
    """An independent engine, on any rows."""
    expected = sql(
        f"""
        WITH venue AS (
            SELECT tier, venue_id, any_value(venue_kind) AS kind, {SHARES} AS shares,
                sum(trade_count)::HUGEINT AS trades, count(DISTINCT symbol) AS symbols,
                CASE WHEN {COMPLETE} THEN {DOLLARS} END AS dollars, {BLOCKS} AS blocks, {UNDECIDED} AS undecided
            FROM v GROUP BY tier, venue_id
        ), complete AS (SELECT tier, {COMPLETE} AS complete FROM v GROUP BY tier)
        SELECT tier, venue_id, shares, trades::BIGINT, symbols,
            {rounded_sql("shares", "trades * 1000000")},
            {rounded_sql("100 * shares", "sum(shares) OVER (PARTITION BY tier)")},
            row_number() OVER (PARTITION BY tier ORDER BY shares DESC, venue_id),
            {rounded_sql("100 * shares", "sum(shares) OVER (PARTITION BY tier, kind = 'ATS')")},
            row_number() OVER (PARTITION BY tier, kind = 'ATS' ORDER BY shares DESC, venue_id),
            dollars,
            CASE WHEN complete THEN {rounded_sql("100 * dollars", "sum(dollars) OVER (PARTITION BY tier)")} END,
            CASE WHEN complete THEN row_number() OVER (PARTITION BY tier ORDER BY dollars DESC, venue_id) END,
            CASE WHEN complete THEN
                {rounded_sql("100 * dollars", "sum(dollars) OVER (PARTITION BY tier, kind = 'ATS')")} END,
            CASE WHEN complete THEN
                row_number() OVER (PARTITION BY tier, kind = 'ATS' ORDER BY dollars DESC, venue_id) END,
            blocks, {rounded_sql("100 * blocks", "shares")}, undecided
        FROM venue JOIN complete USING (tier) ORDER BY tier, venue_id
        """,
        v=rows,
    )
    columns = [c for c in VENUE_SHARE if c not in ("week_ending", "venue_kind", "venue_name")]
    assert millionths(venue_share(rows), *columns) == expected


@settings(max_examples=50, deadline=None)
@given(rows=volumes())
def test_shares_add_up_to_a_hundred_and_venues_to_symbols(rows: pl.DataFrame) -> None:
    """Each share is half a millionth off at most; volumes are off by nothing."""
    venues, symbols = venue_share(rows), symbol_summary(rows)
    for (tier,), group in venues.group_by("tier"):
        of_symbols = symbols.filter(pl.col("tier") == tier)
        assert group["total_volume"].sum() == of_symbols["total_volume"].sum()
        assert group["total_trades"].sum() == of_symbols["total_trades"].sum()
        assert sorted(group["rank"]) == list(range(1, group.height + 1))
        tolerance = Decimal("0.0000005") * group.height
        if group["total_volume"].sum():
            assert abs(group["market_share_pct"].sum() - 100) <= tolerance
        if group["total_notional"].null_count():
            assert group["notional_rank"].null_count() == group["notional_share_pct"].null_count() == group.height
        else:
            assert sorted(group["notional_rank"]) == list(range(1, group.height + 1))
            assert group["total_notional"].sum() == of_symbols["total_notional"].sum()
            if group["total_notional"].sum():
                assert abs(group["notional_share_pct"].sum() - 100) <= tolerance


@settings(max_examples=50, deadline=None)
@given(rows=volumes())
def test_block_like_volume_is_the_same_by_venue_and_by_symbol_and_never_more_than_the_volume(
    rows: pl.DataFrame,
) -> None:
    """The same rows, grouped in two ways; what is undecided is not in it."""
    for made in (venue_share(rows), symbol_summary(rows)):
        limit = made["block_like_volume"] + made["block_undecided_volume"]
        assert (limit <= made["total_volume"]).all()
    for column in ("block_like_volume", "block_undecided_volume"):
        assert venue_share(rows)[column].sum() == symbol_summary(rows)[column].sum()
