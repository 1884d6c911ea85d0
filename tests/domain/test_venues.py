"""Venues over time: the reviewed file, identities, and successions with their evidence."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from decimal import Decimal

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from weekly_rows import WEEK, Frames, Row, sql, volume

from otc_assets.domain.enums import Decision
from otc_assets.domain.reviewed import BadList
from otc_assets.domain.rolling import venue_rolling
from otc_assets.domain.schema import VENUE, VENUE_SUCCESSION, VENUE_VOLUME
from otc_assets.domain.summaries import venue_share
from otc_assets.domain.venues import (
    PROPOSED_FROM_SYMBOLS,
    SUCCESSIONS,
    Succession,
    identities,
    parsed,
    venue,
    venue_succession,
)
from otc_assets.domain.weeks import T1, weeks_up_to

WEEKS = weeks_up_to(WEEK)
HEADER = "predecessor,successor,decision,source,reviewed"
RENAMED = Succession("SGMA", "SGMT", Decision.CONFIRMED, "a notice", dt.date(2026, 1, 2))


def history(by_week: dict[int, list[Row]]) -> pl.DataFrame:
    """Venue volume of weeks of the window: 1 is the oldest, 6 the week itself."""
    return pl.concat([VENUE_VOLUME.to_frame(), *(volume(rows, WEEKS[number - 1]) for number, rows in by_week.items())])


def captured(numbers: Iterable[int] = range(1, 7)) -> pl.DataFrame:
    weeks = [WEEKS[number - 1] for number in numbers]
    return pl.DataFrame(
        {"week_ending": weeks, "tier": [T1.name] * len(weeks)}, schema={"week_ending": pl.Date, "tier": pl.String}
    )


def reading(rows: pl.DataFrame) -> Frames:
    tables = {"venue_volume": rows, "venue_share": venue_share(rows)}

    return Frames(tables)


def found(rows: pl.DataFrame, *reviewed: Succession) -> pl.DataFrame:
    made = venue_succession(reading(rows), captured(), WEEK, reviewed, least_symbols=2)
    assert made.schema == VENUE_SUCCESSION
    return made


#: SGMA ends as SGMT begins, with 3 of 4 symbols; INCR trades on.
SWITCH: dict[int, list[Row]] = {
    **{n: [("A", "SGMA", 50, 5), ("B", "SGMA", 30, 3), ("C", "SGMA", 20, 2), ("A", "INCR", 9, 1)] for n in range(1, 6)},
    6: [("A", "SGMT", 60, 6), ("B", "SGMT", 30, 3), ("D", "SGMT", 30, 3), ("A", "INCR", 9, 1)],
}


def test_a_venue_that_ends_as_another_begins_is_proposed_with_the_evidence() -> None:
    """By hand: A and B of three symbols each; min(50, 50) + min(30, 25) = 75 % of the volume; 120 after 100."""
    assert found(history(SWITCH)).to_dicts() == [
        {
            "week_ending": WEEK,
            "predecessor": "SGMA",
            "successor": "SGMT",
            "venue_kind": "ATS",
            "predecessor_name": "Venue SGMA",
            "successor_name": "Venue SGMT",
            "predecessor_last_week": WEEKS[4],
            "successor_first_week": WEEK,
            "predecessor_symbols": 3,
            "successor_symbols": 3,
            "symbols_in_common": 2,
            "symbols_in_common_pct": Decimal("66.666667"),
            "volume_in_common_pct": Decimal(75),
            "volume_ratio_pct": Decimal(120),
            "decision": "proposed",
        }
    ]


def test_a_switch_within_a_week_is_found_in_the_week_after_it() -> None:
    """In the week of both, neither has ended; the evidence is of the last week before and the first after."""
    switch = {**SWITCH, 5: [("A", "SGMA", 1, 1), ("A", "SGMT", 1, 1)]}
    (row,) = found(history(switch)).to_dicts()
    assert (row["predecessor_last_week"], row["successor_first_week"]) == (WEEKS[4], WEEKS[4])
    assert (row["predecessor_symbols"], row["volume_in_common_pct"]) == (3, Decimal(75))


@pytest.mark.parametrize(
    "changed",
    [
        {6: [("X", "SGMT", 60, 6), ("Y", "SGMT", 30, 3), ("A", "INCR", 9, 1)]},  # other symbols
        {6: [("A", "SGMT", 1, 1), ("B", "SGMT", 1, 1), ("D", "SGMT", 98, 1)]},  # the same symbols, and little of them
        {6: [("A", "7897", 60, 6), ("B", "7897", 30, 3), ("C", "7897", 30, 3)]},  # a firm is no ATS
        {6: [*SWITCH[6], ("A", "SGMA", 1, 1)]},  # it has not ended
        {3: [*SWITCH[3], ("A", "SGMT", 1, 1)]},  # it began earlier
    ],
)
def test_no_succession_is_proposed_without_evidence(changed: dict[int, list[Row]]) -> None:
    assert not found(history({**SWITCH, **changed})).height


def test_a_decision_of_the_reviewed_file_is_stated_whatever_the_evidence() -> None:
    assert found(history(SWITCH), RENAMED)["decision"].to_list() == ["confirmed"]
    refused = Succession("SGMA", "SGMT", Decision.REFUSED, "a notice", dt.date(2026, 1, 2))
    assert found(history(SWITCH), refused)["decision"].to_list() == ["refused"]
    back = Succession("SGMT", "SGMA", Decision.CONFIRMED, "a notice", dt.date(2026, 1, 2))
    assert found(history(SWITCH), back)["decision"].to_list() == ["confirmed"]
    other = {**SWITCH, 6: [("X", "SGMT", 60, 6)]}
    assert not found(history(other)).height
    assert found(history(other), RENAMED)["symbols_in_common"].to_list() == [0]


def test_a_few_symbols_in_common_are_no_evidence() -> None:
    """Two small firms that trade the same popular symbol now and then are not one."""
    assert PROPOSED_FROM_SYMBOLS == 10
    for symbols, proposals in ((9, 0), (10, 1)):
        rows: dict[int, list[Row]] = {n: [(f"S{s}", "SGMA", 5, 1) for s in range(symbols)] for n in range(1, 6)}
        rows[6] = [(f"S{s}", "SGMT", 5, 1) for s in range(symbols)]
        assert venue_succession(reading(history(rows)), captured(), WEEK, ()).height == proposals


def test_without_an_earlier_captured_week_nothing_has_ended() -> None:
    assert not venue_succession(reading(history(SWITCH)), captured([6]), WEEK, ()).height
    assert not venue_succession(reading(history(SWITCH)), captured([5, 6])[:0], WEEK, ()).height


def test_six_week_figures_follow_a_confirmed_succession_and_no_other() -> None:
    """By hand: 100 in five weeks and 120 in the sixth are 620 in 30 days; 24 a day is 16.129032 % above 20.666667."""
    shares = venue_share(history(SWITCH))
    made = venue_rolling(shares, captured(), WEEK, identities([RENAMED])).filter(pl.col("venue_id") != "INCR")
    columns = ["venue_id", "identity_id", "predecessors", "weeks_traded", "trend", "trend_reason", "volume_vs_avg_pct"]
    assert made.select(columns).rows() == [("SGMT", "SGMA", "SGMA", 6, "up", None, Decimal("16.129032"))]
    apart = venue_rolling(shares, captured(), WEEK, {}).filter(pl.col("venue_id") != "INCR")
    assert apart.select("venue_id", "predecessors", "volume_vs_avg_pct").rows() == [
        ("SGMA", None, Decimal(-100)),
        ("SGMT", None, Decimal(500)),
    ]


def test_a_week_under_both_ids_is_one_week_of_the_identity() -> None:
    both = {**SWITCH, 6: [("A", "SGMA", 40, 4), ("A", "SGMT", 60, 6), ("B", "SGMT", 10, 1)]}
    made = venue_rolling(venue_share(history(both)), captured(), WEEK, identities([RENAMED]))
    (row,) = made.filter(pl.col("identity_id") == "SGMA").to_dicts()
    assert (row["venue_id"], row["predecessors"], row["weeks_traded"]) == ("SGMT", "SGMA", 6)
    assert (row["current_volume"], row["current_trade_size"]) == (Decimal(110), Decimal(10))
    assert row["avg_6w_symbol_count"] == Decimal("2.833333")  # three symbols in five weeks; then the larger of 1 and 2


def test_a_venue_has_its_name_and_that_of_its_identity_in_the_week_before() -> None:
    rows = history(SWITCH).with_columns(
        pl.when(pl.col("venue_id").is_in(["SGMA", "INCR"]) & (pl.col("week_ending") < WEEK))
        .then(pl.lit("OLD NAME"))
        .otherwise("venue_name")
        .alias("venue_name")
    )
    made = venue(venue_share(rows), captured(), WEEK)
    assert made.schema == VENUE
    columns = ["venue_id", "identity_id", "mpid", "venue_name", "is_new", "previous_venue_id", "previous_venue_name"]
    assert made.select(columns).rows() == [
        ("INCR", "INCR", "INCR", "Venue INCR", False, "INCR", "OLD NAME"),
        # The reviewed file that ships with the package confirms this succession.
        ("SGMT", "SGMA", "SGMT", "Venue SGMT", False, "SGMA", "OLD NAME"),
    ]
    assert made["previous_week"].to_list() == [WEEKS[4], WEEKS[4]]
    assert not venue(venue_share(rows), captured([6]), WEEK)["is_new"].any()
    # Of the tier in which it trades, no earlier week is captured.
    other = captured().with_columns(tier=pl.lit("OTC"))
    assert not venue(venue_share(rows), pl.concat([captured([6]), other]), WEEK)["is_new"].any()
    started = venue(
        venue_share(rows.filter((pl.col("venue_id") != "INCR") | (pl.col("week_ending") == WEEK))), captured(), WEEK
    )
    assert started.filter("is_new")["venue_id"].to_list() == ["INCR"]


def test_a_chain_of_successions_is_one_identity() -> None:
    lines = [f"{HEADER}", "B,C,confirmed,a notice,2026-01-02", "A,B,confirmed,a notice,2026-01-02"]
    assert identities(parsed([*lines, "X,Y,refused,a notice,2026-01-02"])) == {"A": "A", "B": "A", "C": "A"}


def test_the_shipped_file_is_usable_and_names_the_source_of_every_line() -> None:
    assert {(line.predecessor, line.successor) for line in SUCCESSIONS} >= {("SGMA", "SGMT")}
    assert all(len(line.source) > 20 for line in SUCCESSIONS)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["predecessor,successor"], "line 1: the header must be"),
        ([HEADER, "A,B,confirmed,,2026-01-02"], "line 2: a line has 5 values"),
        ([HEADER, "A,B,confirmed,a notice"], "line 2: a line has 5 values"),
        ([HEADER, "A,B,perhaps,a notice,2026-01-02"], "line 2: the decision must be confirmed or refused"),
        ([HEADER, "A,B,confirmed,a notice,Friday"], "line 2: reviewed must be a day"),
        ([HEADER, *["A,B,refused,a notice,2026-01-02"] * 2], "line 3: A and B are in the list twice"),
        (
            [HEADER, "A,B,confirmed,a notice,2026-01-02", "A,C,confirmed,a notice,2026-01-02"],
            "line 3: A has another successor",
        ),
        (
            [HEADER, *(f"{pair},confirmed,a notice,2026-01-02" for pair in ("A,B", "B,C", "C,A"))],
            "line 4: C to A leads back to C",
        ),
    ],
)
def test_a_bad_line_of_the_reviewed_file_is_refused_with_its_number(lines: list[str], message: str) -> None:
    with pytest.raises(BadList, match=message):
        parsed(lines)


_WEEK_ROWS = st.lists(
    st.tuples(
        st.sampled_from("ABCDEF"), st.sampled_from(["SGMA", "SGMT", "INCR"]), st.integers(1, 100), st.integers(1, 9)
    ),
    unique_by=lambda row: row[:2],
    max_size=12,
)


@settings(max_examples=60, deadline=None)
@given(weeks=st.lists(_WEEK_ROWS, min_size=3, max_size=3))
def test_successions_and_their_evidence_are_those_that_duckdb_finds(weeks: list[list[Row]]) -> None:
    """An independent engine; weeks 1 to 3 are as week 4, so that no venue begins in them."""
    rows = history(
        {
            **dict.fromkeys(range(1, 5), weeks[0]),
            5: [*weeks[1], ("Z", "JPMX", 1, 1)],
            6: [*weeks[2], ("Z", "JPMX", 1, 1)],
        }
    )
    expected = sql(
        f"""
        WITH stay AS (
            SELECT venue_id AS id, min(week_ending) AS first, max(week_ending) AS last FROM v GROUP BY 1
        ),
        pair AS (
            SELECT a.id AS p, b.id AS n, b.first,
                (SELECT max(week_ending) FROM v WHERE venue_id = a.id AND week_ending < b.first) AS whole
            FROM stay a, stay b WHERE a.last = '{WEEKS[4]}' AND b.last = '{WEEK}' AND b.first >= '{WEEKS[4]}'
        ),
        shared AS (
            SELECT p, n, (SELECT count(*) FROM v WHERE venue_id = p AND week_ending = whole) AS old,
                (SELECT count(*) FROM v WHERE venue_id = n AND week_ending = '{WEEK}') AS new,
                count(*) FILTER (a.symbol IS NOT NULL AND b.symbol IS NOT NULL) AS n_both,
                sum(least(coalesce(a.pct, 0), coalesce(b.pct, 0))) AS overlap
            FROM pair
            LEFT JOIN LATERAL (SELECT symbol, 100.0 * share_volume::DOUBLE / sum(share_volume::DOUBLE) OVER () AS pct
                FROM v WHERE venue_id = p AND week_ending = whole) a ON true
            LEFT JOIN LATERAL (SELECT symbol, 100.0 * share_volume::DOUBLE / sum(share_volume::DOUBLE) OVER () AS pct
                FROM v WHERE venue_id = n AND week_ending = '{WEEK}') b ON a.symbol = b.symbol
            WHERE whole IS NOT NULL GROUP BY ALL
        )
        SELECT p, n, old, new, n_both, overlap FROM shared
        WHERE overlap >= 50 - 1e-4 AND n_both * 2 >= greatest(old, new) ORDER BY 1, 2
        """,  # noqa: S608
        v=rows,
    )
    made = venue_succession(reading(rows), captured(), WEEK, (), least_symbols=1)
    of = ["predecessor", "successor", "predecessor_symbols", "successor_symbols", "symbols_in_common"]
    overlaps = [float(value) for value in made["volume_in_common_pct"]]
    sure = [row for row in expected if row[5] >= 50 + 1e-4 or row[:2] in made.select(of[:2]).rows()]
    assert made.select(of).rows() == [row[:5] for row in sure]
    assert overlaps == pytest.approx([row[5] for row in sure], abs=1e-3)
