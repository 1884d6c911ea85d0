"""What the simulator shows in any window of eight weeks, of which T2 and OTC have six.

Expectations are written out here, and DuckDB looks for the examples in the rows.
"""

from __future__ import annotations

import datetime as dt
import gzip
import itertools
import json
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import duckdb
import polars as pl
import pytest

from otc_assets.domain.gaps import classify
from otc_assets.domain.weeks import NEW_YORK, OTCE, T1, TIERS, Tier, publication_date, trading_days, weeks_up_to
from otc_assets.finra.file_reader import read_file
from otc_assets.finra.simulator.examples import WELL_KNOWN
from otc_assets.finra.simulator.files import write_files
from otc_assets.finra.simulator.generator import Simulator
from otc_assets.finra.simulator.venues import OTC_ATS

LATER = dt.date(2031, 1, 6)
#: The newest weeks of five consecutive windows, after which the examples repeat, and of others, years apart.
NEWEST = [*weeks_up_to(dt.date(2026, 9, 4), 5), dt.date(2022, 4, 8), dt.date(2024, 2, 9), dt.date(2029, 5, 4)]
LATE_WEEK = dt.date(2026, 9, 4)


@pytest.fixture(scope="module")
def simulator() -> Simulator:
    return Simulator(scale=0.01)


@pytest.fixture(scope="module", params=NEWEST, ids=str)
def window(
    simulator: Simulator, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[duckdb.DuckDBPyConnection]:
    """The rows of firms and ATSs of eight weeks of T1, and of the six of T2 and OTC, as table `rows`."""
    weeks = weeks_up_to(request.param, 8)
    parts = []
    for tier in TIERS:
        for week in weeks if tier == T1 else weeks[:6]:
            published = simulator.publication(week, tier, LATER)
            assert published is not None
            parts.append(published.filter(pl.col("summaryTypeCode").str.ends_with("SMBL_FIRM")))
    path = tmp_path_factory.mktemp("window") / "rows.parquet"
    pl.concat(parts).write_parquet(path)
    with duckdb.connect() as duck:
        duck.execute(
            "CREATE TABLE rows AS SELECT weekStartDate + 4 AS week, tierIdentifier AS tier,"
            " issueSymbolIdentifier AS symbol, issueName AS issue, MPID AS mpid, marketParticipantName AS venue,"
            " totalWeeklyShareQuantity::DOUBLE AS shares, totalNotionalSum::DOUBLE AS dollars FROM read_parquet(?)",
            [str(path)],
        )
        yield duck


def test_well_known_symbols_trade_in_their_tier_with_their_names_and_plausible_prices(
    window: duckdb.DuckDBPyConnection,
) -> None:
    found = window.execute(
        "SELECT tier, symbol, any_value(issue), count(DISTINCT issue), count(DISTINCT week),"
        " avg(dollars / shares), sum(shares) / count(DISTINCT week) / 1e6 FROM rows"
        " WHERE symbol IN ('AAPL', 'MSFT', 'SPY', 'TSLA', 'NVDA', 'QQQ', 'GME', 'AMC', 'TCEHY', 'NSRGY', 'BRK.B')"
        " GROUP BY ALL ORDER BY ALL"
    ).fetchall()
    assert [row[:5] for row in found] == [
        ("OTCE", "NSRGY", "Nestle SA Sponsored ADR representing Registered Shares Series B (Switzerland)", 1, 6),
        ("OTCE", "TCEHY", "Tencent Holdings Limited Unsponsored ADR Representing B Shares (Cayman Islands)", 1, 6),
        ("T1", "AAPL", "Apple Inc. Common Stock", 1, 8),
        ("T1", "BRK.B", "BERKSHIRE HATHAWAY Class B", 1, 8),
        ("T1", "GME", "GameStop Corporation Common Stock", 1, 8),
        ("T1", "MSFT", "Microsoft Corporation Common Stock", 1, 8),
        ("T1", "NVDA", "NVIDIA Corporation Common Stock", 1, 8),
        ("T1", "QQQ", "Invesco QQQ Trust, Series 1", 1, 8),
        ("T1", "SPY", "SPDR S&P 500 ETF Trust", 1, 8),
        ("T1", "TSLA", "Tesla, Inc. Common Stock", 1, 8),
        ("T2", "AMC", "AMC Entertainment Holdings, Inc. Class A Common Stock", 1, 6),
    ]
    # AAPL: 74 million shares at ATSs and firms by FINRA's ATS rows of 2025-02, at $245.
    price, millions = next(row[5:] for row in found if row[1] == "AAPL")
    assert 220 < price < 270
    assert 60 < millions < 140


def test_apple_trades_at_the_atss_of_finras_rows(window: duckdb.DuckDBPyConnection, finra_data: Path) -> None:
    """Every ATS of the simulator's AAPL, but those that FINRA's rows do not have, is there by its MPID and name."""
    real = set(
        pl.read_ndjson(_lines(finra_data / "api" / "aapl_ats_w_smbl_firm.json.gz"))
        .select("MPID", "marketParticipantName")
        .unique()
        .rows()
    )
    ours = set(window.execute("SELECT DISTINCT mpid, venue FROM rows WHERE symbol = 'AAPL' AND mpid <> ''").fetchall())
    assert {mpid for mpid, _ in ours - real} <= {"BOSS", "XIST", "SGMA"}
    assert {"UBSA", "JPMX", "BIDS", "XSTM", "MSPL", "IATS", "EBXL"} < {mpid for mpid, _ in ours & real}


def test_the_atss_of_the_otc_tier_are_those_of_finras_files(finra_data: Path) -> None:
    lines = [line for path in (finra_data / "website").glob("*.csv") for line in path.read_text().splitlines()[1:]]
    real = {(mpid, name) for _, _, _, name, mpid, *_ in (line.split("|") for line in lines)}
    assert {(ats.mpid, f"{ats.mpid} {ats.name}") for ats in OTC_ATS} == real


def _lines(path: Path) -> bytes:
    return "\n".join(map(json.dumps, json.loads(gzip.decompress(path.read_bytes())))).encode()


def test_one_ats_has_another_mpid_and_one_another_name(window: duckdb.DuckDBPyConnection) -> None:
    """Most symbols trade there before and after, and about as much."""
    weeks = window.execute(
        "SELECT week, any_value(mpid), count(DISTINCT mpid), count(DISTINCT symbol), sum(shares) FROM rows"
        " WHERE venue LIKE '%SIGMA X2' AND tier = 'T1' GROUP BY week ORDER BY week"
    ).fetchall()
    assert {week[1] for week in weeks} == {"SGMA", "SGMT"}
    assert {week[2] for week in weeks} == {1}
    before, after = next((one, next_) for one, next_ in itertools.pairwise(weeks) if one[1] != next_[1])
    common = window.execute(
        "SELECT count(*) FROM (SELECT symbol FROM rows WHERE mpid = ? AND week = ? AND tier = 'T1' INTERSECT"
        " SELECT symbol FROM rows WHERE mpid = ? AND week = ? AND tier = 'T1')",
        [before[1], before[0], after[1], after[0]],
    ).fetchone()
    assert common is not None
    assert common[0] > 0.7 * max(before[3], after[3])
    assert 0.4 < after[4] / before[4] < 2.5

    names = window.execute("SELECT week, list(DISTINCT venue) FROM rows WHERE mpid = 'BOSS' GROUP BY week").fetchall()
    if names:  # it began in March 2025
        assert {tuple(each) for _, each in names} == {("BOSS BRUCE ATS",), ("BOSS BRUCE MARKETS, LLC.",)}


def test_one_symbol_moves_to_the_other_tier(window: duckdb.DuckDBPyConnection) -> None:
    found = window.execute(
        "SELECT a.symbol FROM rows a JOIN rows b USING (symbol, issue) WHERE b.week = a.week + 7 AND a.tier <> b.tier"
        " AND NOT EXISTS (FROM rows c WHERE c.symbol = a.symbol AND c.week = a.week AND c.tier = b.tier)"
        " AND a.symbol LIKE 'EX%' GROUP BY ALL"
    ).fetchall()
    assert found == [("EXTM",)]


def test_one_symbol_splits_and_its_dollars_stay(window: duckdb.DuckDBPyConnection) -> None:
    found = window.execute(
        "WITH weekly AS (SELECT symbol, week, sum(dollars) AS dollars, sum(dollars) / sum(shares) AS price FROM rows"
        " WHERE tier = 'T1' GROUP BY symbol, week),"
        " changes AS (SELECT a.symbol, greatest(a.price / b.price, b.price / a.price) AS price,"
        " greatest(a.dollars / b.dollars, b.dollars / a.dollars) AS dollars FROM weekly a JOIN weekly b"
        " ON a.symbol = b.symbol AND b.week = a.week + 7)"
        " SELECT symbol, round(price), dollars < 2 FROM changes WHERE price > 3 GROUP BY ALL"
    ).fetchall()
    assert found == [("EXSP", 10.0, True)]


def test_one_symbol_trades_several_times_its_norm_in_a_week(window: duckdb.DuckDBPyConnection) -> None:
    found = window.execute(
        "WITH weekly AS (SELECT symbol, week, sum(shares) AS shares FROM rows WHERE tier = 'T2' GROUP BY symbol, week)"
        " SELECT symbol FROM weekly GROUP BY symbol HAVING max(shares) > 4 * median(shares) AND count(*) = 6"
    ).fetchall()
    assert found == [("EXVM",)]


def test_one_ticker_has_another_issuer_and_one_issuer_another_ticker(window: duckdb.DuckDBPyConnection) -> None:
    reused = window.execute(
        "SELECT symbol, list_sort(list(DISTINCT issue)) FROM rows WHERE symbol LIKE 'EX%' GROUP BY symbol"
        " HAVING count(DISTINCT issue) > 1"
    ).fetchall()
    assert reused == [("EXRU", ["Harbor Foods, Inc. Common Stock", "Quarry Mining Ltd. Ordinary Shares"])]
    renamed = window.execute(
        "SELECT issue, list_sort(list(DISTINCT symbol)) FROM rows WHERE issue LIKE 'Example%' GROUP BY issue"
        " HAVING count(DISTINCT symbol) > 1"
    ).fetchall()
    assert renamed == [("Example Renamed Company Common Stock", ["EXNW", "EXOL"])]


def test_one_symbol_begins_and_one_ends(window: duckdb.DuckDBPyConnection) -> None:
    lives = window.execute(
        "SELECT min(week), max(week), count(DISTINCT week) FROM rows WHERE issue LIKE 'Example Listing%'"
        " GROUP BY symbol"
    ).fetchall()
    first, last = window.execute("SELECT min(week), max(week) FROM rows WHERE tier = 'T2'").fetchall()[0]
    assert any(begins > first and ends == last for begins, ends, _ in lives)
    assert any(begins == first and ends < last for begins, ends, _ in lives)
    assert all(weeks == (ends - begins).days // 7 + 1 for begins, ends, weeks in lives)


@pytest.mark.parametrize("newest", NEWEST, ids=str)
def test_one_publication_is_revised_within_two_weeks_and_apple_is_in_it(simulator: Simulator, newest: dt.date) -> None:
    """On the newest week's publication day, one of the eight weeks of T1 is revised already."""
    today = publication_date(newest, T1)
    revised = [
        (week, day)
        for week in weeks_up_to(newest, 8)
        for day in simulator.revisions(week, T1)
        if (day - publication_date(week, T1)).days < 14 and day <= today
    ]
    assert revised
    week, day = revised[-1]
    rows = [simulator.publication(week, T1, each) for each in (day - dt.timedelta(days=1), day)]
    before, after = (
        {
            (row["MPID"], row["firmCRDNumber"]): row["totalWeeklyShareQuantity"]
            for row in each.filter(  # type: ignore[union-attr]
                (pl.col("issueSymbolIdentifier") == "AAPL") & pl.col("summaryTypeCode").str.ends_with("SMBL_FIRM")
            ).to_dicts()
        }
        for each in rows
    )
    common = before.keys() & after.keys()
    assert len(before.keys() - after.keys()) == len(after.keys() - before.keys()) == 1
    assert sorted({after[key] / before[key] for key in common}) == [Decimal(1), Decimal(2)]
    assert sum(after[key] != before[key] for key in common) == 5


@pytest.mark.parametrize("newest", NEWEST, ids=str)
def test_one_publication_is_late(simulator: Simulator, newest: dt.date) -> None:
    weeks = weeks_up_to(newest, 8)[:6]
    late = [
        (week, tier, (simulator.published_on(week, tier) - publication_date(week, tier)).days)
        for week in weeks
        for tier in TIERS
        if simulator.published_on(week, tier) != publication_date(week, tier)
    ]
    assert {(tier, days) for _, tier, days in late} == {(OTCE, 3)}


def test_a_late_publication_is_offered_and_in_files_from_its_day_on_and_a_late_gap_until_then(
    simulator: Simulator, tmp_path: Path
) -> None:
    """Due on Monday, 2026-10-05, and there on Thursday. The files' name gives the week that their dates do not."""
    due = publication_date(LATE_WEEK, OTCE)
    assert due == dt.date(2026, 10, 5)
    captured = pl.DataFrame(
        {"week_ending": [], "tier": [], "rows_loaded": [], "rows_expected": [], "complete": []},
        schema={
            "week_ending": pl.Date,
            "tier": pl.String,
            "rows_loaded": pl.Int64,
            "rows_expected": pl.Int64,
            "complete": pl.Boolean,
        },
    )
    for days, offered in ((0, False), (2, False), (3, True)):
        today = due + dt.timedelta(days=days)
        assert ((LATE_WEEK - dt.timedelta(days=4), "OTCE") in simulator.partitions(today)) is offered
        assert (simulator.publication(LATE_WEEK, OTCE, today) is not None) is offered
        written = write_files(simulator, tmp_path / str(days), [LATE_WEEK], [OTCE], today)
        assert len(written) == (2 if offered else 0)
        now = dt.datetime.combine(today, dt.time(12), NEW_YORK)
        gaps = classify(captured, None, first_week=LATE_WEEK, now=now, tiers=[OTCE])
        assert gaps.row(0, named=True)["status"] == "late"
    assert [(capture.week_ending, capture.tier) for path in written for capture in read_file(path)] == [
        (LATE_WEEK, OTCE)
    ] * 2
    rows = simulator.publication(LATE_WEEK, OTCE, today)
    assert rows is not None
    assert rows["initialPublishedDate"].unique().to_list() == [dt.date(2026, 10, 8)]


def test_no_invented_symbol_has_the_ticker_of_a_well_known_one() -> None:
    """At FINRA's size, invented tickers reach GME and SPY."""
    week = dt.date(2026, 8, 21)
    of_tiers = [Simulator().publication(week, tier, LATER) for tier in TIERS]
    traded = pl.concat([rows for rows in of_tiers if rows is not None]).select(
        "tierIdentifier", "issueSymbolIdentifier", "issueName"
    )
    names = [member.symbol for member in WELL_KNOWN]
    found = traded.filter(pl.col("issueSymbolIdentifier").is_in(names)).unique()
    assert found.height == len(names)


def test_a_week_with_a_holiday_trades_less(simulator: Simulator) -> None:
    """Labor Day, 2026-09-07; the calendar is the NYSE's."""
    volumes = {}
    for week in weeks_up_to(dt.date(2026, 9, 11), 2):
        rows = simulator.publication(week, T1, LATER)
        assert rows is not None
        volumes[trading_days(week)] = rows.filter(pl.col("summaryTypeCode") == "ATS_W_SMBL")[
            "totalWeeklyShareQuantity"
        ].sum()
    assert 0.7 < volumes[4] / volumes[5] < 0.92


def test_a_simulator_below_a_hundredth_of_finras_size_has_no_examples() -> None:
    rows = Simulator(scale=0.005).publication(dt.date(2026, 8, 21), T1, LATER)
    assert rows is not None
    assert not rows["issueSymbolIdentifier"].is_in(["AAPL", "EXSP"]).any()
    assert _tier_symbols(T1) > {"AAPL", "EXSP"}


def _tier_symbols(tier: Tier) -> set[str]:
    rows = Simulator(scale=0.01).publication(dt.date(2026, 8, 21), tier, LATER)
    assert rows is not None
    return set(rows["issueSymbolIdentifier"].drop_nulls())
